"""A service of AWS: how it is connected to, what is asked again, and what its refusals mean."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.source_error import SourceError, SourceUnavailable
from etl_ml.lake.backoff import Backoff
from etl_ml.spec.error import bounded
from etl_ml.spec.source import DynamoSource, KinesisSource, public

if TYPE_CHECKING:
    from etl_ml.lake.stores import StoreSettings

_HEALS = {
    *("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"),
    *("InternalServerError", "ServiceUnavailable", "InternalFailure", "TransactionInProgress"),
    *("RequestTimeout", "RequestTimeoutException", "SlowDown", "LimitExceededException"),
    "KMSThrottlingException",
}
_NAMED = {
    "ExpiredTokenException": ("the credentials have expired", "sign in again"),
    "ExpiredToken": ("the credentials have expired", "sign in again"),
    "UnrecognizedClientException": ("the credentials are not known", "correct them"),
    "InvalidSignatureException": ("the secret key is wrong", "correct the credentials"),
    "MissingAuthenticationTokenException": ("there are no credentials", "set AWS_ACCESS_KEY_ID"),
}


class Service:
    """One service, for one source.

    Parameters
    ----------
    name : as boto3 calls it
    settings : region and credentials; None for the provider's chain
    named : by code of an error, what it means and what to do
    connections : at once

    Raises
    ------
    SourceError
        Credentials, region or address cannot be used.
    """

    def __init__(
        self,
        name: str,
        source: DynamoSource | KinesisSource,
        settings: StoreSettings | None,
        named: Mapping[str, tuple[str, str]],
        connections: int,
    ) -> None:
        self._name, self._source, self._named = name, source, {**_NAMED, **named}
        self.client = self._client(settings, connections)

    def ask(
        self,
        ask: Callable[[], Any],
        *,
        stop: threading.Event | None = None,
        patience: float = 180,
        fails: Callable[[Any], NoReturn] | None = None,
    ) -> Any:
        """An answer; what heals is asked again.

        Parameters
        ----------
        stop : whether nobody waits any more
        fails : raises for an error that does not heal; by default `refuse`
        """
        from botocore import exceptions

        backoff, refuse = Backoff(patience), fails or self.refuse
        while True:
            try:
                return ask()
            except (exceptions.ClientError, exceptions.BotoCoreError) as error:
                if (stop is not None and stop.is_set()) or not _heals(error):
                    refuse(error)
                try:
                    backoff.wait(error)
                except (exceptions.ClientError, exceptions.BotoCoreError):
                    refuse(error)

    def refuse(self, error: Any, *, where: str = "source", close: str | None = None) -> NoReturn:
        """Raise what an error means for the person who set the source up."""
        from botocore import exceptions

        if not isinstance(error, exceptions.ClientError):
            self._not_asked(error)
        told = error.response.get("Error", {})
        code = str(told.get("Code", ""))
        what, fix = self._named.get(code, (f"{_SHOWN[self._name]} refuses", "look at what it says"))
        # What follows the first line of a wrong signature is the request, with its token.
        first = (str(told.get("Message") or "").splitlines() or [""])[0]
        raise (SourceUnavailable if _heals(error) else SourceError)(
            f"{self._source.address}: {what}.",
            seen=bounded(f"{code}: {first}".rstrip(": "), 200),
            where=where,
            close=close,
            fix=fix,
        ) from None

    def _not_asked(self, error: Exception) -> NoReturn:
        """Say why no answer came at all."""
        from botocore import exceptions as e

        source, part = self._source, {"dynamodb": "table", "kinesis": "stream"}[self._name]
        network = (e.ConnectionError, e.HTTPClientError)
        server = public(source.endpoint) if source.endpoint else "AWS"
        seen, where = type(error).__name__, "source"
        if isinstance(error, e.NoCredentialsError | e.PartialCredentialsError):
            what, fix = "there are no credentials", "set AWS_ACCESS_KEY_ID or name source.resource"
        elif isinstance(error, e.NoRegionError):
            what, fix = "there is no region", "set source.region or AWS_REGION"
            where = "source.region"
        elif isinstance(error, e.ProfileNotFound):
            what = "there is no such profile"
            fix = "correct AWS_PROFILE or the resource's profile_name"
        elif isinstance(error, network):
            what = f"{server} cannot be reached"
            fix = "look at the network, source.region and endpoint"
            # The error's own text has the URL whole.
            reason = str(getattr(error, "kwargs", {}).get("error", "")).rpartition(": ")[2]
            seen, where = bounded(f"{seen}: {reason}".rstrip(": "), 200), "source.endpoint"
        elif isinstance(error, e.InvalidRegionError):
            what, fix = "there is no such region", "correct source.region"
            where = "source.region"
        elif isinstance(error, ValueError):
            what, fix = "its address is not a URL", "correct source.endpoint"
            where = "source.endpoint"
        elif isinstance(error, e.ParamValidationError):
            what, fix = f"its name is not a {part}'s", f"correct source.{part}"
            where = f"source.{part}"
        else:
            what, fix = "the credentials cannot be had", "sign in again, or correct ~/.aws/config"
        raise SourceError(f"{source.address}: {what}.", seen=seen, where=where, fix=fix) from None

    def _client(self, settings: StoreSettings | None, connections: int) -> Any:
        import boto3
        from botocore import exceptions
        from botocore.config import Config

        given = {
            "region_name": self._source.region or (settings.region if settings else None),
            # The settings' endpoint is that of S3.
            "endpoint_url": self._source.endpoint,
        }
        if settings is not None:
            given["aws_access_key_id"] = settings.key
            given["aws_secret_access_key"] = settings.secret
            given["aws_session_token"] = settings.token
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=connections,
            connect_timeout=10,
        )
        try:
            return boto3.Session(profile_name=settings.profile if settings else None).client(
                self._name, config=config, **{name: v for name, v in given.items() if v}
            )
        except (exceptions.BotoCoreError, ValueError) as error:
            self._not_asked(error)


_SHOWN = {"dynamodb": "DynamoDB", "kinesis": "Kinesis"}


def complete(answer: Any, part: str, client: Any) -> Any:
    """An answer that has what it must; botocore takes one that was cut short for an empty one."""
    from botocore import exceptions

    if part not in answer:
        raise exceptions.ConnectionClosedError(
            endpoint_url=client.meta.endpoint_url, error="the answer was cut short"
        )
    return answer


def _heals(error: Exception) -> bool:
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error.response.get("Error", {}).get("Code") in _HEALS or status >= 500
    if isinstance(error, exceptions.SSLError):
        return False
    if isinstance(error, exceptions.EndpointConnectionError):
        text = str(getattr(error, "kwargs", {}).get("error", "")).lower()
        return not any(word in text for word in ("resolve", "not known", "getaddrinfo"))
    return isinstance(error, exceptions.HTTPClientError | exceptions.ConnectTimeoutError)
