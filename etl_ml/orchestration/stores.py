"""Credentials from Dagster's own S3 and Azure resources, as plain settings for the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    from etl_ml.lake.stores import StoreSettings


def resource_keys(section: Any) -> set[str]:
    """The resource that a source or destination names, if it names one."""
    name = getattr(section, "resource", None)
    return {name} if name else set()


def settings_of(section: Any, resources: Any) -> StoreSettings | None:
    """What the resource that a section names says; None for the provider's own chain.

    Parameters
    ----------
    resources : of the step that is running

    Raises
    ------
    EtlMlError
        The resource is neither dagster-aws's nor dagster-azure's.
    """
    name = getattr(section, "resource", None)
    if not name:
        return None
    # By attribute, dagster-aws's resource is a boto3 client, without the settings it was made from.
    return settings_from(resources.original_resource_dict[name], name)


def settings_from(resource: Any, name: str) -> StoreSettings:
    """The settings of an `S3Resource` or an `AzureBlobStorageResource`."""
    from etl_ml.lake.stores import StoreSettings

    if hasattr(resource, "aws_access_key_id"):
        return StoreSettings(
            endpoint=resource.endpoint_url,
            region=resource.region_name,
            key=resource.aws_access_key_id,
            secret=resource.aws_secret_access_key,
            token=resource.aws_session_token,
            profile=resource.profile_name,
        )
    if hasattr(resource, "account_url"):
        return _azure(resource, name)
    raise EtlMlError(
        f"resource {name!r} is a {type(resource).__name__}.",
        where=f"resource: {name}",
        fix="give it an S3Resource of dagster_aws.s3, or an AzureBlobStorageResource of "
        "dagster_azure.blob",
    )


def _azure(resource: Any, name: str) -> StoreSettings:
    from urllib.parse import urlsplit

    from etl_ml.lake.stores import StoreSettings

    url, credential = resource.account_url, resource.credential
    parts = urlsplit(url)
    # An emulator has the account in its path, a real one in its host.
    account = parts.path.strip("/") or (parts.hostname or "").partition(".")[0]
    kind = getattr(credential, "credential_type", "")
    if kind == "key":
        return StoreSettings(endpoint=url, key=account, secret=credential.key)
    if kind == "sas":
        return StoreSettings(endpoint=url, key=account, token=credential.token)
    if kind == "default_azure_credential":
        return StoreSettings(endpoint=url, key=account)
    raise EtlMlError(
        f"resource {name!r}: its credential, {type(credential).__name__}, cannot be used here.",
        where=f"resource: {name}",
        fix="use AzureBlobStorageKeyCredential, AzureBlobStorageSASTokenCredential or "
        "AzureBlobStorageDefaultCredential",
    )
