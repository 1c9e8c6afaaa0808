"""Azure's services for a target: what their refusals mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from etl_ml.deploy.target import TargetError
from etl_ml.spec.error import bounded

_SHOWN = 300


@contextmanager
def asking(what: str, *, where: str) -> Iterator[None]:
    """Say what a refusal means.

    Parameters
    ----------
    what : for the message, what cannot be done: `azure_ml target: the endpoint cannot be read`
    where : the target
    """
    from azure.core.exceptions import (
        AzureError,
        ClientAuthenticationError,
        HttpResponseError,
        ResourceNotFoundError,
        ServiceRequestError,
        ServiceResponseError,
    )

    try:
        yield
    except AzureError as error:
        status = error.status_code if isinstance(error, HttpResponseError) else None
        if isinstance(error, ClientAuthenticationError) or status == 401:
            why = "the credentials are refused, or there are none"
            fix = "sign in with `az login`, or set AZURE_CLIENT_ID, AZURE_TENANT_ID and a secret"
        elif status == 403:
            why = "the credentials may not do this"
            fix = "allow what it says; docs/deployment.md has them all"
        elif isinstance(error, ResourceNotFoundError):
            why = "there is no such thing"
            fix = "correct the target's subscription_id, resource_group, workspace or datastore"
        elif isinstance(error, ServiceRequestError | ServiceResponseError):
            why, fix = "Azure cannot be reached", "look at the network, then run it again"
        else:
            why, fix = "Azure refuses it", "do what it says, then run it again"
        raise TargetError(
            f"{what}: {why}.",
            seen=bounded(_first_lines(error), _SHOWN),
            where=where,
            fix=fix,
        ) from None


def _first_lines(error: Exception) -> str:
    """The code and what is said; what follows are ids of the request."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
