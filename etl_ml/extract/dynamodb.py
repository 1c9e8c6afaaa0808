"""DynamoDB: a parallel scan of a table, or its export to S3."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.documents import Documents
from etl_ml.extract.dynamodb_items import decoder
from etl_ml.extract.pending import Held, marked
from etl_ml.extract.source_error import SourceError, SourceUnavailable
from etl_ml.lake.backoff import Backoff
from etl_ml.spec.contract import Contract
from etl_ml.spec.error import bounded, nearest
from etl_ml.spec.source import DynamoSource, public

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_ml.extract.dynamodb_export import Export
    from etl_ml.lake.stores import StoreSettings

_ROWS, _PAGES = 10_000, 32  # a page has at most 1 MB
_HEALS = {
    *("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"),
    *("InternalServerError", "ServiceUnavailable", "InternalFailure", "TransactionInProgress"),
    *("RequestTimeout", "RequestTimeoutException", "SlowDown", "LimitExceededException"),
}
_BUSY = ("it stays too busy", "read with fewer segments or an export, or raise its read capacity")
_NAMED = {
    "ResourceNotFoundException": ("there is no such table", "correct source.table or region"),
    "AccessDeniedException": (
        "the credentials may not read it",
        "allow dynamodb:DescribeTable and dynamodb:Scan on it",
    ),
    "ExpiredTokenException": ("the credentials have expired", "sign in again"),
    "ExpiredToken": ("the credentials have expired", "sign in again"),
    "UnrecognizedClientException": ("the credentials are not known", "correct them"),
    "InvalidSignatureException": ("the secret key is wrong", "correct the credentials"),
    "MissingAuthenticationTokenException": ("there are no credentials", "set AWS_ACCESS_KEY_ID"),
    "ProvisionedThroughputExceededException": _BUSY,
    "ThrottlingException": _BUSY,
    "RequestLimitExceeded": _BUSY,
}


def open_dynamodb(
    source: DynamoSource, contract: Contract, settings: StoreSettings | None
) -> Scan | Export:
    """Look whether the table or export can be read.

    Parameters
    ----------
    settings : region, credentials and S3's endpoint; None for the provider's chain

    Raises
    ------
    SourceError
        Table, credentials, region or host are not right; named at once.
    """
    if source.export:
        from etl_ml.extract.dynamodb_export import Export

        return Export(source, contract, settings)
    return Scan(source, contract, settings)


class Scan:
    """Segments read by threads of their own; a queue of bounded length holds them back."""

    def __init__(
        self, source: DynamoSource, contract: Contract, settings: StoreSettings | None
    ) -> None:
        self._source, self._documents = source, Documents(contract)
        self.schema = self._documents.schema
        self.origin = (source.address,)
        self._client = _client(source, settings)
        self._described = self._ask(
            lambda: self._client.describe_table(TableName=source.table), threading.Event(), 10
        )
        self._date = self._described["ResponseMetadata"]["HTTPHeaders"].get("date")
        # DynamoDB counts every six hours.
        self.total: int | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        queue: Queue[list[dict[str, Any]] | BaseException | None] = Queue(
            2 * min(self._source.segments, 16)
        )
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._segment, args=(number, queue, stop), daemon=True)
            for number in range(self._source.segments)
        ]
        for thread in threads:
            thread.start()
        left, pages = len(threads), 0
        rows: list[dict[str, Any]] = []
        try:
            while left:
                found = queue.get()
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    left -= 1
                    continue
                rows += found
                pages += 1
                if len(rows) >= _ROWS or (rows and pages >= _PAGES):
                    yield self._documents.batch(rows)
                    rows, pages = [], 0
            if rows:
                yield self._documents.batch(rows)
        finally:
            stop.set()
            while any(thread.is_alive() for thread in threads):
                try:
                    queue.get(timeout=0.05)
                except Empty:
                    continue

    def held(self) -> Held:
        """Number and size of the items, which AWS counts every six hours."""
        table = self._described["Table"]
        items, size = int(table["ItemCount"]), int(table["TableSizeBytes"])
        blind = ", by the number of items and bytes that AWS tells every six hours"
        return Held(marked(table.get("TableId"), items, size), items, size, blind)

    def clock(self) -> datetime | None:
        return parsedate_to_datetime(self._date).astimezone(UTC) if self._date else None

    def _segment(self, number: int, queue: Queue[Any], stop: threading.Event) -> None:
        ask: dict[str, Any] = {
            "TableName": self._source.table,
            "Segment": number,
            "TotalSegments": self._source.segments,
        }
        decode = decoder()
        end: BaseException | None = None
        try:
            while not stop.is_set():
                answer = self._ask(lambda: self._page(ask), stop)
                _put(queue, [decode(item) for item in answer["Items"]], stop)
                if "LastEvaluatedKey" not in answer:
                    break
                ask["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        except BaseException as error:  # handed to the thread that reads
            end = error
        _put(queue, end, stop)

    def _page(self, ask: dict[str, Any]) -> Any:
        from botocore import exceptions

        answer = self._client.scan(**ask)
        if "Items" not in answer:  # botocore takes an answer that was cut short for an empty one
            raise exceptions.ConnectionClosedError(
                endpoint_url=self._client.meta.endpoint_url, error="the answer was cut short"
            )
        return answer

    def _ask(self, ask: Any, stop: threading.Event, patience: float = 180) -> Any:
        """One page; what heals is asked for again from where it was."""
        from botocore import exceptions

        backoff = Backoff(patience)
        while True:
            try:
                return ask()
            except (exceptions.ClientError, exceptions.BotoCoreError) as error:
                if stop.is_set() or not _heals(error):
                    self._refuse(error)
                try:
                    backoff.wait(error)
                except (exceptions.ClientError, exceptions.BotoCoreError):
                    self._refuse(error)

    def _refuse(self, error: Exception) -> NoReturn:
        from botocore import exceptions

        if not isinstance(error, exceptions.ClientError):
            _not_asked(self._source, error)
        told = error.response.get("Error", {})
        code = str(told.get("Code", ""))
        what, fix = _NAMED.get(code, ("DynamoDB refuses", "look at what it says"))
        where, close = "source", None
        if code == "ResourceNotFoundException":
            where, close = "source.table", nearest(self._source.table, self._tables())
        # What follows the first line of a wrong signature is the request, with its token.
        first = (str(told.get("Message") or "").splitlines() or [""])[0]
        raise (SourceUnavailable if _heals(error) else SourceError)(
            f"{self.origin[0]}: {what}.",
            seen=bounded(f"{code}: {first}".rstrip(": "), 200),
            where=where,
            close=close,
            fix=fix,
        ) from None

    def _tables(self) -> list[str]:
        from botocore import exceptions

        try:
            return list(self._client.list_tables()["TableNames"])
        except (exceptions.ClientError, exceptions.BotoCoreError):
            return []


def _put(queue: Queue[Any], item: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            return queue.put(item, timeout=0.1)
        except Full:
            continue


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


def _not_asked(source: DynamoSource, error: Exception) -> NoReturn:
    """Say why no answer of DynamoDB came at all."""
    from botocore import exceptions as e

    network = (e.ConnectionError, e.HTTPClientError)
    server = public(source.endpoint) if source.endpoint else "AWS"
    seen, where = type(error).__name__, "source"
    if isinstance(error, e.NoCredentialsError | e.PartialCredentialsError):
        what, fix = "there are no credentials", "set AWS_ACCESS_KEY_ID or name source.resource"
    elif isinstance(error, e.NoRegionError):
        what, fix, where = "there is no region", "set source.region or AWS_REGION", "source.region"
    elif isinstance(error, e.ProfileNotFound):
        what, fix = "there is no such profile", "correct AWS_PROFILE or the resource's profile_name"
    elif isinstance(error, network):
        what, fix = f"{server} cannot be reached", "look at the network, source.region and endpoint"
        # The error's own text has the URL whole.
        reason = str(getattr(error, "kwargs", {}).get("error", "")).rpartition(": ")[2]
        seen, where = bounded(f"{seen}: {reason}".rstrip(": "), 200), "source.endpoint"
    elif isinstance(error, e.InvalidRegionError):
        what, fix, where = "there is no such region", "correct source.region", "source.region"
    elif isinstance(error, ValueError):
        what, fix, where = "its address is not a URL", "correct source.endpoint", "source.endpoint"
    elif isinstance(error, e.ParamValidationError):
        what, fix, where = "its name is not a table's", "correct source.table", "source.table"
    else:
        what, fix = "the credentials cannot be had", "sign in again, or correct ~/.aws/config"
    kind = SourceUnavailable if _heals(error) else SourceError
    raise kind(f"{source.address}: {what}.", seen=seen, where=where, fix=fix) from None


def _client(source: DynamoSource, settings: StoreSettings | None) -> Any:
    import boto3
    from botocore import exceptions
    from botocore.config import Config

    given = {
        "region_name": source.region or (settings.region if settings else None),
        # The settings' endpoint is that of S3.
        "endpoint_url": source.endpoint,
    }
    if settings is not None:
        given["aws_access_key_id"] = settings.key
        given["aws_secret_access_key"] = settings.secret
        given["aws_session_token"] = settings.token
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=source.segments + 1,
        connect_timeout=10,
    )
    try:
        return boto3.Session(profile_name=settings.profile if settings else None).client(
            "dynamodb", config=config, **{name: v for name, v in given.items() if v}
        )
    except (exceptions.BotoCoreError, ValueError) as error:
        _not_asked(source, error)
