"""A bucket of Google Cloud Storage, by google-cloud-storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etl_ml.deploy.publication import Publication
from etl_ml.deploy.target import TargetError
from etl_ml.lake.backend import AlreadyExists, TooLarge
from etl_ml.spec.deployment import GcsTarget
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client

_SECONDS = 60.0
_NO_BUCKET = "bucket does not exist"


def gcs_target(section: GcsTarget, pipeline: str) -> Publication:
    """Publishes to a prefix in a bucket, which must exist."""
    objects = gcs_objects(section.url, endpoint=section.endpoint, project=section.project)
    return Publication("gcs", objects, pipeline)


def gcs_objects(url: str, *, endpoint: str | None = None, project: str | None = None) -> GcsObjects:
    """The objects under `gs://bucket/prefix`.

    Credentials are Google's application default ones; to an emulator (`STORAGE_EMULATOR_HOST`, or
    an endpoint of `http://`) none are sent.

    Raises
    ------
    TargetError
        google-cloud-storage is not installed, or there are no credentials.
    """
    try:
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud.storage import Client
    except ImportError:
        raise TargetError(
            "gcs target: google-cloud-storage is not installed.",
            where=url,
            fix="pip install 'etl_ml[gcp]'",
        ) from None
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    safe = not (endpoint or "").startswith("http://")
    try:
        client = Client(
            project=project,
            client_options={"api_endpoint": endpoint} if endpoint else None,
            use_auth_w_custom_endpoint=safe,
        )
    except DefaultCredentialsError as error:
        raise TargetError(
            "gcs target: there are no Google credentials.",
            seen=bounded(_first_line(error), 160),
            where=url,
            fix="run `gcloud auth application-default login`, or set "
            "GOOGLE_APPLICATION_CREDENTIALS to the path of a service account's key",
        ) from None
    return GcsObjects(url, client, bucket, prefix)


class GcsObjects:
    """Objects under one prefix of a bucket."""

    def __init__(self, url: str, client: Client, bucket: str, prefix: str = "") -> None:
        self.url = url
        self._bucket = client.bucket(bucket)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        from google.api_core.exceptions import NotFound, RequestRangeNotSatisfiable

        # One byte more than is wanted tells that there is more.
        with self._asking("read", name):
            try:
                data: bytes = self._blob(name).download_as_bytes(
                    end=most, raw_download=True, **self._patience()
                )
            except RequestRangeNotSatisfiable:  # of an empty object
                return b""
            except NotFound as error:
                if _NO_BUCKET in str(error):
                    raise
                return None
        if most is not None and len(data) > most:
            raise TooLarge(name, len(data))
        return data

    def put(self, name: str, data: bytes) -> None:
        with self._asking("written", name):
            self._write(name, data)

    def create(self, name: str, data: bytes) -> None:
        from google.api_core.exceptions import PreconditionFailed

        with self._asking("written", name):
            try:
                self._write(name, data, if_generation_match=0)
                return
            except PreconditionFailed:
                pass
        # The answer to a write that was made may have been lost, and the write repeated.
        if self.get(name) != data:
            raise AlreadyExists(name)

    def objects(self, prefix: str) -> list[str]:
        start = f"{self._prefix}{prefix}/"
        with self._asking("listed", prefix):
            found = self._bucket.client.list_blobs(
                self._bucket, prefix=start, delimiter="/", **self._patience()
            )
            return sorted(blob.name.removeprefix(start) for blob in found if blob.name != start)

    def _blob(self, name: str) -> Blob:
        return self._bucket.blob(f"{self._prefix}{name}")

    def _write(self, name: str, data: bytes, **condition: int) -> None:
        self._blob(name).upload_from_string(
            data, content_type="application/octet-stream", **condition, **self._patience()
        )

    def _patience(self) -> dict[str, Any]:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return {"timeout": _SECONDS, "retry": DEFAULT_RETRY.with_timeout(_SECONDS)}

    @contextmanager
    def _asking(self, what: str, name: str) -> Iterator[None]:
        """Say what a refusal means."""
        from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption
        from requests.exceptions import RequestException

        try:
            yield
        except PreconditionFailed:
            raise
        except (GoogleAPIError, GoogleAuthError, DataCorruption, RequestException) as error:
            code = getattr(error, "code", None)
            if isinstance(error, NotFound):
                why, fix = "there is no such bucket", "create it, or correct the URL"
            elif code in (401, 403) or isinstance(error, GoogleAuthError):
                why = "the credentials are refused, or may not do this"
                fix = "check that they may get, create and list objects here"
            else:
                why = "the store does not answer as it should"
                fix = "check the endpoint, then run it again"
            raise TargetError(
                f"{name} cannot be {what}: {why}.",
                seen=bounded(_first_line(error), 160),
                where=self.url,
                fix=fix,
            ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
