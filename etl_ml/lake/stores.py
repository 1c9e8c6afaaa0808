"""Object stores by URL: S3, Azure Blob, Google Cloud Storage and the web, by obstore.

Without settings each provider's own chain finds the credentials: AWS_* and boto3's (profiles, SSO,
roles), AZURE_* and azure-identity's, Google's application default.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Credential

SCHEMES = ("s3", "az", "gs", "http", "https")
_AZURE_SECRETS = re.compile(
    r"AZURE_(STORAGE_(ACCOUNT_KEY|ACCESS_KEY|SAS_\w+|TOKEN|CLIENT_\w+)|CLIENT_SECRET|FEDERATED_\w+"
    r"|SAS_\w+|ACCESS_KEY|STORAGE_USE_EMULATOR|SKIP_SIGNATURE)"
)


class StoreError(EtlMlError):
    """An object store that cannot be opened."""


@dataclass(frozen=True)
class StoreSettings:
    """What is said in place of a provider's own chain; None leaves that part to the chain.

    Parameters
    ----------
    endpoint : URL of the service, where it is not the provider's public one; may be `http://`
    region : of S3
    key, secret : S3's access key and its secret; Azure's account key or Google's service account
        (JSON) is `secret` alone
    token : S3's session token, or Azure's SAS token
    account : Azure's storage account
    profile : of ~/.aws, for S3
    anonymous : requests are not signed
    """

    endpoint: str | None = None
    region: str | None = None
    key: str | None = None
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    account: str | None = None
    profile: str | None = None
    anonymous: bool = False


def is_remote(url: str) -> bool:
    """Whether it is a URL that `open_store` takes, and not a path."""
    return url.partition("://")[0] in SCHEMES and "://" in url


def open_store(url: str, settings: StoreSettings | None = None) -> tuple[ObjectStore, str]:
    """The store that a URL names, and the name of the object, or prefix, inside it.

    Nothing is asked of the server yet. For the web the store is the one file, its name is empty.

    Raises
    ------
    StoreError
        The URL is none of s3://bucket/…, az://container/…, gs://bucket/…, http(s)://…, or there
        are no credentials at all.
    """
    from obstore.store import HTTPStore

    settings = settings or StoreSettings()
    scheme, _, rest = url.partition("://")
    if scheme in ("http", "https"):
        return HTTPStore(url, client_options=_client(url), retry_config=_retries()), ""
    bucket, _, name = rest.partition("/")
    makers = {"s3": _s3, "az": _azure, "gs": _google}
    if scheme not in makers or not bucket:
        raise StoreError(
            f"{scheme}://{bucket} is not the address of an object store.",
            fix="write s3://bucket/…, az://container/…, gs://bucket/… or https://…",
        )
    return makers[scheme](bucket, settings), name


def _s3(bucket: str, settings: StoreSettings) -> ObjectStore:
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    environment = os.environ
    endpoint = settings.endpoint or next(
        filter(None, map(environment.get, ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))), None
    )
    region, provider, anonymous = settings.region, None, settings.anonymous
    anonymous |= environment.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
    if settings.key and settings.secret:
        found: S3Credential = {
            "access_key_id": settings.key,
            "secret_access_key": settings.secret,
            "token": settings.token,
            "expires_at": None,
        }
        # As a provider, so that nothing is mixed with a token in AWS_SESSION_TOKEN.
        provider = lambda: found  # noqa: E731
    elif not anonymous:
        try:
            session = boto3.Session(profile_name=settings.profile)
            region = region or session.region_name
            provider = Boto3CredentialProvider(session)
        except (BotoCoreError, ValueError) as error:
            name = type(error).__name__
            raise StoreError(
                f"s3://{bucket}: AWS credentials were not found"
                + ("." if isinstance(error, ValueError) else f" ({name})."),
                seen="tried AWS_* variables, ~/.aws, SSO, the container's and the machine's role",
                fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or name a "
                "resource",
            ) from None
    options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    region = region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    return S3Store(
        bucket,
        region=region or "us-east-1",
        credential_provider=provider,
        skip_signature=anonymous,
        client_options=_client(endpoint),
        retry_config=_retries(),
        **options,
    )


def _azure(container: str, settings: StoreSettings) -> ObjectStore:
    from obstore.auth.azure import AzureCredentialProvider
    from obstore.store import AzureStore

    connection = _connection(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    account = settings.account or connection.get("AccountName")
    key = settings.secret or (None if settings.token else connection.get("AccountKey"))
    endpoint = settings.endpoint or connection.get("BlobEndpoint")
    endpoint = endpoint or os.environ.get("AZURE_STORAGE_ENDPOINT")
    known = account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not known:
        raise StoreError(
            f"az://{container}: the storage account is not known.",
            fix="set AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING, or name a "
            "resource",
        )
    options: dict[str, Any] = {"account_name": known}
    if endpoint:
        options["endpoint"] = endpoint
    if settings.anonymous:
        options["skip_signature"] = True
    elif key:
        options["account_key"] = key
    elif settings.token or connection.get("SharedAccessSignature"):
        options["sas_key"] = settings.token or connection["SharedAccessSignature"]
    elif not any(_AZURE_SECRETS.match(name) for name in os.environ):
        options["credential_provider"] = AzureCredentialProvider()
    return AzureStore(
        container, client_options=_client(endpoint), retry_config=_retries(), **options
    )


def _connection(text: str) -> dict[str, str]:
    """The parts of an Azure connection string."""
    return dict(part.split("=", 1) for part in text.split(";") if "=" in part)


def _google(bucket: str, settings: StoreSettings) -> ObjectStore:
    from obstore.store import GCSStore

    options: dict[str, Any] = {}
    if settings.endpoint:
        account = {"gcs_base_url": settings.endpoint, "disable_oauth": True}
        account |= {"client_email": "", "private_key": "", "private_key_id": ""}
        options["service_account_key"] = settings.secret or json.dumps(account)
    elif settings.secret:
        options["service_account_key"] = settings.secret
    if settings.anonymous:
        options["skip_signature"] = True
    # A service account's JSON may name an emulator.
    told = settings.endpoint or os.environ.get("STORAGE_EMULATOR_HOST")
    return GCSStore(bucket, client_options=_client(told), retry_config=_retries(), **options)


def _client(endpoint: str | None) -> ClientConfig:
    """Plain HTTP where the address says so, else never."""
    allow = urlsplit(endpoint or "").scheme == "http"
    return {"allow_http": allow, "connect_timeout": "5s", "timeout": "300s"}


def _retries() -> RetryConfig:
    """For what heals: about 5 seconds, so that an unknown host is named soon."""
    wait = {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=2), "base": 2}
    return {"max_retries": 5, "retry_timeout": timedelta(seconds=20), "backoff": wait}  # type: ignore[typeddict-item]


def failure(error: Exception) -> tuple[str, str]:
    """What an error of a store means, and the next step.

    The error's own text is never shown: it holds signed addresses and what was signed.
    """
    from obstore import exceptions

    text = str(error)
    found = re.search(r"<Code>(\w+)</Code>|x-ms-error-code: (\w+)", text)
    code = next(filter(None, found.groups()), "") if found else ""
    status = re.search(r"status (?:code )?:?\s?(\d{3})|HTTP status \w+ error \((\d{3})", text)
    said = code or (f"HTTP {next(filter(None, status.groups()))}" if status else "")
    bracket = f" ({said})" if said else ""
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return f"there is no such bucket or container{bracket}", "correct the name, or make it"
    if isinstance(error, FileNotFoundError | exceptions.NotFoundError):
        return f"there is no such file{bracket}", "correct the path"
    if code in ("SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthenticationFailed") or (
        isinstance(error, exceptions.UnauthenticatedError)
    ):
        return f"the credentials are refused{bracket}", "correct the key and its secret"
    if isinstance(error, exceptions.PermissionDeniedError):
        return f"no permission{bracket}", "give these credentials the right, or use others"
    if isinstance(error, exceptions.PreconditionError):
        return "the file changed while it was read", "run again when nobody writes to it"
    if "dns error" in text or "failed to lookup" in text:
        return "the host is not known", "correct the address, or look at the network"
    if "onnect" in text and not said:
        return "the server does not answer", "start it, or correct the address"
    if "redential" in text or "metadata" in text or ("token" in text.lower() and not said):
        return "no credentials were found", "set the provider's variables, or name a resource"
    return f"it cannot be read{bracket or f' ({type(error).__name__})'}", "try again later"


def without_query(url: str) -> str:
    """A web address without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
