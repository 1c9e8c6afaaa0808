"""A target of one's own: a service of Google Cloud Run, by its Admin API v2.

Packages go to a bucket, of which each revision mounts the package that it serves. A revision is
made without traffic and asked the sample rows under a tag; then the traffic moves to it, in the
same request as the service's annotations, which say what is served.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import requests

from etl_ml.deploy import Package, Pointer, Publication, TargetError, sample_of
from etl_ml.deploy.folder import PackageFolder
from etl_ml.deploy.gcs import gcs_objects

_API = "https://run.googleapis.com"
_SECONDS, _POLL_SECONDS = 600.0, 2.0
_ENTRY, _VERSION, _AT = (f"etl-ml.dev/{name}" for name in ("entry", "version", "at"))
_BY_REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"


class CloudRun:
    """What the YAML names; it is called with the pipeline's name and the keys beside `type`.

    `endpoint` and `storage` are of emulators, to which no credentials are sent.
    """

    type = "cloud_run"

    def __init__(
        self,
        pipeline: str,
        url: str,
        project: str,
        region: str,
        image: str,
        service: str = "",
        memory: str = "1Gi",
        endpoint: str = _API,
        storage: str | None = None,
    ) -> None:
        self._image, self._memory, self._endpoint = image, memory, endpoint
        self._pipeline, self._name = pipeline, service or pipeline.replace("_", "-")
        self._parent = f"projects/{project}/locations/{region}"
        self.url = f"cloudrun://{project}/{region}/{self._name}"
        self._data = Publication("cloud_run", gcs_objects(url, endpoint=storage), pipeline)
        self._bucket, _, self._prefix = url.removeprefix("gs://").partition("/")
        self._emulated = endpoint.startswith("http://")

    def check(self) -> None:
        self._data.check()
        self._service()

    def upload(self, package: Package) -> None:
        self._data.upload(package)
        service, revision = self._service(), self._revision(package.version)
        if service is None or not self._tag(service, package.version):
            self._make(service, package.version, revision)
        self._ask(package)

    def uploaded(self, version: str) -> PackageFolder:
        return self._data.uploaded(version)

    def current(self) -> Pointer | None:
        service = self._service()
        said = (service or {}).get("annotations", {})
        if _ENTRY not in said:
            return None
        return Pointer(int(said[_ENTRY]), said[_VERSION], said[_AT])

    def point(self, pointer: Pointer) -> None:
        service, now = self._service(), self.current()
        if now is not None and now.entry > pointer.entry:
            return
        if service is None:
            raise self._error("the service is gone")
        serving = {"type": _BY_REVISION, "revision": self._revision(pointer.version)}
        # The others stay under their tags, without traffic, for a rollback.
        others = [
            {key: value for key, value in each.items() if key != "percent"}
            for each in service["traffic"]
            if each["revision"] != serving["revision"]
        ]
        told = {_ENTRY: str(pointer.entry), _VERSION: pointer.version, _AT: pointer.at}
        # With the etag that was read: of two pushes at once, one is told to try again.
        self._change(
            {
                **service,
                "annotations": {**service.get("annotations", {}), **told},
                "traffic": [
                    {**serving, "percent": 100, "tag": _tag(pointer.version)},
                    *others,
                ],
            }
        )

    def _make(self, service: dict[str, Any] | None, version: str, revision: str) -> None:
        """A revision under a tag; of a new service it is the only one, and has the traffic."""
        folder = "/".join(filter(None, (self._prefix, self._pipeline, "models", version)))
        container = {
            "image": self._image,
            "ports": [{"containerPort": 8080}],
            "env": [{"name": "ETL_ML_SERVE_MODEL", "value": f"/models/{folder}"}],
            "resources": {"limits": {"memory": self._memory}},
            "startupProbe": {"httpGet": {"path": "/health/ready"}},
            "volumeMounts": [{"name": "models", "mountPath": "/models"}],
        }
        template = {
            "revision": revision,
            "containers": [container],
            "volumes": [{"name": "models", "gcs": {"bucket": self._bucket, "readOnly": True}}],
        }
        under_tag = {"type": _BY_REVISION, "revision": revision, "tag": _tag(version)}
        if service is None:
            made = {"template": template, "traffic": [{**under_tag, "percent": 100}]}
            self._done(self._send("POST", f"{self._parent}/services?serviceId={self._name}", made))
            return
        traffic = [*service["traffic"], under_tag]
        self._change({**service, "template": template, "traffic": traffic})

    def _ask(self, package: Package) -> None:
        """Let the revision answer the sample rows, whatever the traffic is."""
        sample, service = sample_of(package), self._service()
        if sample is None or service is None:
            return
        uri = self._tag(service, package.version)
        headers = {"Content-Type": "application/json"}
        if not self._emulated:
            from google.auth.transport.requests import Request
            from google.oauth2.id_token import fetch_id_token

            token = fetch_id_token(Request(), service["uri"])  # type: ignore[no-untyped-call]
            headers["Authorization"] = f"Bearer {token}"
        answer = requests.post(
            f"{uri}/invocations", data=sample.request, headers=headers, timeout=_SECONDS
        )
        if answer.status_code != 200:
            raise self._error(f"the revision answers with status {answer.status_code}")
        sample.check(answer.content, where=self.url)

    def _tag(self, service: dict[str, Any], version: str) -> str | None:
        """Where the revision of a version is asked, or None where there is none."""
        revision = self._revision(version)
        found = (t for t in service.get("trafficStatuses", ()) if t["revision"] == revision)
        return next((t["uri"] for t in found if t.get("tag") == _tag(version)), None)

    def _revision(self, version: str) -> str:
        """Another image is another revision."""
        digest = hashlib.sha256(f"{self._image} {self._memory}".encode()).hexdigest()[:6]
        return f"{self._name}-v{int(version)}-{digest}"

    def _service(self) -> dict[str, Any] | None:
        return self._send("GET", f"{self._parent}/services/{self._name}")

    def _change(self, service: dict[str, Any]) -> None:
        self._done(self._send("PATCH", f"{self._parent}/services/{self._name}", service))

    def _done(self, operation: dict[str, Any] | None) -> None:
        end = time.monotonic() + _SECONDS
        while operation is not None and not operation.get("done"):
            if time.monotonic() > end:
                raise self._error(f"after {_SECONDS:.0f} s the service is still not ready")
            time.sleep(_POLL_SECONDS)
            operation = self._send("GET", operation["name"])
        if operation and "error" in operation:
            raise self._error(f"Cloud Run says: {operation['error'].get('message', '')[:300]}")

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        try:
            answer = self._session().request(
                method, f"{self._endpoint}/v2/{path}", json=body, timeout=60
            )
        except requests.RequestException as error:
            raise self._error(f"Cloud Run does not answer: {type(error).__name__}") from None
        if answer.status_code == 404 and method == "GET":
            return None
        if answer.status_code >= 400:
            said = answer.json().get("error", {}).get("message", "")[:300]
            raise self._error(f"Cloud Run refuses it with status {answer.status_code}: {said}")
        document: dict[str, Any] = answer.json()
        return document

    def _session(self) -> requests.Session:
        if self._emulated:
            return requests.Session()
        import google.auth
        from google.auth.transport.requests import AuthorizedSession

        credentials, _ = google.auth.default(["https://www.googleapis.com/auth/cloud-platform"])
        return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]

    def _error(self, what: str) -> TargetError:
        return TargetError(
            f"cloud_run target: {what}.",
            where=self.url,
            fix="mend what it says, then materialize deployed_model again",
        )


def _tag(version: str) -> str:
    return f"v{int(version)}"
