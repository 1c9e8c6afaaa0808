"""Object stores by URL: S3 and what is compatible, Azure Blob, Google Cloud Storage, HTTP.

Credentials come from settings where they are given, else by each provider's own chain.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from etl_ml.spec.error import EtlMlError, bounded
from etl_ml.spec.source import public

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

REMOTE = ("s3", "az", "gs", "http", "https")
RETRIES = 5
_RETRY_SECONDS = 60
_TIMEOUT = timedelta(seconds=60)
_RETRIES: RetryConfig = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)}


class StoreError(EtlMlError):
    """An object store that cannot be reached with what was given."""


@dataclass(frozen=True)
class StoreSettings:
    """Where an object store is and who asks; what is None comes from the provider's chain.

    Attributes
    ----------
    key : S3: access key id; Azure: account name
    secret : S3: secret access key; Azure: account key
    token : S3: session token; Azure: shared access signature
    profile : S3: a profile of the AWS configuration
    """

    endpoint: str | None = None
    region: str | None = None
    key: str | None = None
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    profile: str | None = None


def is_remote(path: str) -> bool:
    """Whether a path is a URL of an object store."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme in REMOTE


def open_store(url: str, settings: StoreSettings | None = None) -> tuple[ObjectStore, str]:
    """The store of a URL, and the object's name or prefix in it.

    Parameters
    ----------
    url : `s3://bucket/name`, `az://container/name`, `gs://bucket/name`, `https://host/name`

    Raises
    ------
    StoreError
        The URL has no bucket or another scheme, or there are no credentials.
    """
    scheme, _, rest = url.partition("://")
    place, _, name = rest.partition("/")
    if scheme not in REMOTE or not place:
        raise StoreError(
            f"{public(url)} is no URL of an object store.",
            fix="write s3://bucket/name, az://container/name, gs://bucket/name or https://host/name",
        )
    given = settings or StoreSettings()
    makers = {"s3": _s3, "az": _azure, "gs": _google}
    if scheme in makers:
        return _made(url, makers[scheme], place, given), name
    from obstore.store import HTTPStore

    # The whole of it: the query may be a signature.
    options: Any = {"allow_http": scheme == "http"}
    return HTTPStore.from_url(url, client_options=options, retry_config=_RETRIES), ""


def _made(
    url: str, make: Callable[[str, StoreSettings], ObjectStore], place: str, given: StoreSettings
) -> ObjectStore:
    from obstore.exceptions import BaseError

    try:
        return make(place, given)
    except BaseError as error:  # no account, no key that is one, no such file of credentials
        told = next(iter(str(error).splitlines()), "")
        raise StoreError(
            f"{public(url)} cannot be opened with these settings.",
            seen=bounded(told, 160),
            fix=_FIXES[url.partition("://")[0]],
        ) from None


_FIXES = {
    "s3": "check AWS_REGION, AWS_ENDPOINT_URL and the credentials",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or "
    "AZURE_STORAGE_SAS_TOKEN, or log in for azure-identity",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT to a file of credentials",
}


def delta_options(url: str, settings: StoreSettings | None = None) -> dict[str, str]:
    """The same store, as the storage options of Delta Lake and Polars; {} for a folder."""
    scheme = url.partition("://")[0]
    given = settings or StoreSettings()
    found: dict[str, str | None] = {
        "timeout": f"{_TIMEOUT.total_seconds():.0f}s",
        "max_retries": str(RETRIES),
        "retry_timeout": f"{_RETRY_SECONDS}s",
    }
    if not is_remote(url):
        return {}
    endpoint = _endpoint(scheme, given) or ""
    if endpoint.startswith("http://"):
        found["allow_http"] = "true"
    if scheme == "s3":
        found |= {"aws_endpoint_url": endpoint or None, "aws_region": given.region}
        found |= _aws_keys(given)
    elif scheme == "az":
        found |= {
            "azure_storage_endpoint": endpoint or None,
            "azure_storage_account_name": given.key,
            "azure_storage_account_key": given.secret,
            "azure_storage_sas_token": given.token,
        }
        if _needs_azure_chain(given):
            token = _azure_chain().credential.get_token("https://storage.azure.com/.default")
            found["azure_storage_token"] = token.token
    return {name: value for name, value in found.items() if value is not None}


def _aws_keys(given: StoreSettings) -> dict[str, str | None]:
    key, secret, token = given.key, given.secret, given.token
    if key is None:
        if not _needs_aws_chain(given):
            return {}
        frozen = _aws_chain(given).credentials.get_frozen_credentials()
        key, secret, token = frozen.access_key, frozen.secret_key, frozen.token
    return {
        "aws_access_key_id": key,
        "aws_secret_access_key": secret,
        "aws_session_token": token,
    }


def _endpoint(scheme: str, given: StoreSettings) -> str | None:
    names = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "az": ("AZURE_STORAGE_ENDPOINT",),
    }
    found = (os.environ.get(name) for name in names.get(scheme, ()))
    return given.endpoint or next(filter(None, found), None)


def _needs_aws_chain(given: StoreSettings) -> bool:
    return given.key is None and ("AWS_ACCESS_KEY_ID" not in os.environ or bool(given.profile))


def _needs_azure_chain(given: StoreSettings) -> bool:
    names = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")
    return given.secret is None and given.token is None and not any(n in os.environ for n in names)


def _s3(bucket: str, given: StoreSettings) -> ObjectStore:
    from obstore.store import S3Store

    endpoint = _endpoint("s3", given)
    config: dict[str, Any] = {"endpoint": endpoint, "region": given.region}
    options: dict[str, Any] = {}
    if given.key is not None:
        config |= {"access_key_id": given.key, "secret_access_key": given.secret}
        config["session_token"] = given.token
    elif _needs_aws_chain(given):
        options["credential_provider"] = _aws_chain(given)
    options["client_options"] = _client(endpoint)
    return S3Store(
        bucket,
        config={k: v for k, v in config.items() if v is not None},  # type: ignore[arg-type]
        retry_config=_RETRIES,
        **options,
    )


def _aws_chain(given: StoreSettings) -> Any:
    """Profiles, single sign-on, roles: what boto3 finds."""
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider(
            boto3.Session(profile_name=given.profile, region_name=given.region)
        )
    except ValueError:
        raise StoreError(
            "there are no AWS credentials.",
            fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or name a "
            "Dagster S3Resource as `resource`",
        ) from None


def _azure(container: str, given: StoreSettings) -> ObjectStore:
    from obstore.store import AzureStore

    endpoint = _endpoint("az", given)
    config: dict[str, Any] = {
        "endpoint": endpoint,
        "account_name": given.key,
        "account_key": given.secret,
        "sas_token": given.token,
    }
    options: dict[str, Any] = {}
    if _needs_azure_chain(given):
        options["credential_provider"] = _azure_chain()
    options["client_options"] = _client(endpoint)
    return AzureStore(
        container,
        config={k: v for k, v in config.items() if v is not None},  # type: ignore[arg-type]
        retry_config=_RETRIES,
        **options,
    )


def _azure_chain() -> Any:
    """The environment, a managed identity, the Azure CLI: what azure-identity finds."""
    from obstore.auth.azure import AzureCredentialProvider

    return AzureCredentialProvider()


def _client(endpoint: str | None) -> Any:
    return {"allow_http": (endpoint or "").startswith("http://"), "timeout": _TIMEOUT}


def _google(bucket: str, given: StoreSettings) -> ObjectStore:
    from obstore.store import GCSStore

    # The application default credentials, or GOOGLE_SERVICE_ACCOUNT and its like.
    return GCSStore(bucket, retry_config=_RETRIES)
