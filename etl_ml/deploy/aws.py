"""Amazon's services for a target: clients by boto3, and what their refusals mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etl_ml.deploy.target import TargetError
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from etl_ml.lake.stores import StoreSettings

_ATTEMPTS = 5
_SHOWN = 300
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or name a resource"
_REFUSALS = {
    **dict.fromkeys(
        ("AccessDeniedException", "AccessDenied", "UnauthorizedOperation"),
        ("the credentials may not do this", "allow what it says; docs/deployment.md has them all"),
    ),
    **dict.fromkeys(
        ("ExpiredTokenException", "ExpiredToken"), ("the credentials have expired", "renew them")
    ),
    **dict.fromkeys(
        (
            *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException"),
            *("SignatureDoesNotMatch", "MissingAuthenticationTokenException"),
        ),
        ("the credentials are refused", _CREDENTIALS),
    ),
    "ResourceLimitExceeded": (
        "the account's limit is reached",
        "ask for a higher quota, or take another instance_type",
    ),
    "ModelError": ("the container failed", "look at the endpoint's logs in CloudWatch"),
}


def aws_client(
    service: str,
    *,
    settings: StoreSettings | None,
    region: str | None,
    endpoint: str | None,
    what: str,
    where: str,
) -> Any:
    """A boto3 client.

    Parameters
    ----------
    settings : credentials, from a Dagster resource; None for the provider's chain
    what, where : the target, for errors

    Raises
    ------
    TargetError
        There is no region or no such profile, or the endpoint is no URL.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    profile = settings.profile if settings else None
    # boto3 itself knows AWS_DEFAULT_REGION alone; the other stores know both.
    region = region or (settings.region if settings else None) or os.environ.get("AWS_REGION")
    given: dict[str, Any] = {"region_name": region}
    if settings is not None and settings.key is not None:
        given["aws_access_key_id"] = settings.key
        given["aws_secret_access_key"] = settings.secret
        given["aws_session_token"] = settings.token
    retries = Config(retries={"mode": "standard", "total_max_attempts": _ATTEMPTS})
    try:
        session = boto3.Session(profile_name=profile, **given)
        return session.client(service, endpoint_url=endpoint, config=retries)
    except (BotoCoreError, ValueError) as error:
        raise _unasked(error, what, where) from None


@contextmanager
def asking(what: str, *, where: str) -> Iterator[None]:
    """Say what a refusal means.

    Parameters
    ----------
    what : for the message, what cannot be done: `sagemaker target: the endpoint cannot be read`
    where : the target
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        # What follows the first line of a wrong signature is the request, with its token.
        first = (error.response.get("Error", {}).get("Message") or "").partition("\n")[0]
        why, fix = _REFUSALS.get(code, ("AWS refuses it", "do what it says, then run it again"))
        seen = bounded(f"{code}: {first}", _SHOWN)
        raise TargetError(f"{what}: {why}.", seen=seen, where=where, fix=fix) from None
    except BotoCoreError as error:
        raise _unasked(error, what, where) from None


def _unasked(error: Exception, what: str, where: str) -> TargetError:
    """Why no answer of AWS came at all; the error's own text may have a URL with its query."""
    from botocore import exceptions as e

    network = (e.ConnectionError, e.HTTPClientError)
    if isinstance(error, e.NoCredentialsError | e.PartialCredentialsError):
        why, fix = "there are no credentials", _CREDENTIALS
    elif isinstance(error, e.NoRegionError | e.InvalidRegionError):
        why, fix = "there is no such region, or none", "set the target's region, or AWS_REGION"
    elif isinstance(error, e.ProfileNotFound):
        why, fix = "there is no such profile", "correct AWS_PROFILE, or the resource's profile_name"
    elif isinstance(error, network):
        why, fix = (
            "AWS cannot be reached",
            "look at the network, and the target's region and endpoint",
        )
    elif isinstance(error, ValueError):
        why, fix = "the endpoint is no URL", "correct the target's endpoint"
    elif isinstance(error, e.ParamValidationError):
        why, fix = f"a value cannot be right: {bounded(str(error), _SHOWN)}", "correct the target"
    else:
        why, fix = "the credentials cannot be had", "sign in again, or correct ~/.aws/config"
    seen = type(error).__name__
    return TargetError(f"{what}: {why}.", seen=seen, where=where, fix=fix)
