"""DynamoDB: a parallel scan of a table, or its export to S3."""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.documents import Documents
from etl_ml.extract.reader import Reader
from etl_ml.extract.source_error import SourceError
from etl_ml.lake.backoff import Backoff
from etl_ml.spec.contract import Contract
from etl_ml.spec.error import bounded, nearest
from etl_ml.spec.source import DynamoSource

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_ml.lake.stores import StoreSettings

_ROWS = 10_000
_HEALS = {
    *("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"),
    *("InternalServerError", "ServiceUnavailable", "InternalFailure", "TransactionInProgress"),
    *("RequestTimeout", "RequestTimeoutException", "SlowDown", "LimitExceededException"),
}
_NAMED = {
    "ResourceNotFoundException": ("there is no such table", "correct source.table or region"),
    "AccessDeniedException": ("the credentials may not read it", "allow dynamodb:Scan on it"),
    "ExpiredTokenException": ("the credentials have expired", "sign in again"),
    "ExpiredToken": ("the credentials have expired", "sign in again"),
    "UnrecognizedClientException": ("the credentials are not known", "correct them"),
    "InvalidSignatureException": ("the secret key is wrong", "correct the credentials"),
    "MissingAuthenticationTokenException": ("there are no credentials", "set AWS_ACCESS_KEY_ID"),
}


def open_dynamodb(
    source: DynamoSource, contract: Contract, settings: StoreSettings | None
) -> Reader:
    """Look whether the table or export can be read.

    Parameters
    ----------
    settings : region, endpoint and credentials; None for the provider's chain

    Raises
    ------
    SourceError
        Table, credentials, region or host are not right; named at once.
    """
    if source.export:
        return _Export(source, contract, settings)
    return _Scan(source, contract, settings)


class _Scan:
    """Segments read by threads of their own; a queue of bounded length holds them back."""

    def __init__(
        self, source: DynamoSource, contract: Contract, settings: StoreSettings | None
    ) -> None:
        self._source, self._documents = source, Documents(contract)
        self.schema = self._documents.schema
        self.origin = (source.address,)
        self._client = _client(source, settings)
        described = self._ask(
            lambda: self._client.describe_table(TableName=source.table), threading.Event(), 10
        )
        self._date = described["ResponseMetadata"]["HTTPHeaders"].get("date")
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
        left, rows = len(threads), []
        try:
            while left:
                found = queue.get()
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    left -= 1
                    continue
                rows += found
                if len(rows) >= _ROWS:
                    yield self._documents.batch(rows)
                    rows = []
            if rows:
                yield self._documents.batch(rows)
        finally:
            stop.set()
            while any(thread.is_alive() for thread in threads):
                try:
                    queue.get(timeout=0.05)
                except Empty:
                    continue

    def clock(self) -> datetime | None:
        return parsedate_to_datetime(self._date).astimezone(UTC) if self._date else None

    def _segment(self, number: int, queue: Queue[Any], stop: threading.Event) -> None:
        ask: dict[str, Any] = {
            "TableName": self._source.table,
            "Segment": number,
            "TotalSegments": self._source.segments,
        }
        decode = _decoder()
        end: BaseException | None = None
        try:
            while not stop.is_set():
                answer = self._ask(lambda: self._client.scan(**ask), stop)
                _put(queue, [decode(item) for item in answer["Items"]], stop)
                if "LastEvaluatedKey" not in answer:
                    break
                ask["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        except BaseException as error:  # handed to the thread that reads
            end = error
        _put(queue, end, stop)

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

        where, close = "source", None
        if isinstance(error, exceptions.ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            what, fix = _NAMED.get(code, ("DynamoDB refuses", "look at what it says"))
            seen = bounded(f"{code}: {error.response.get('Error', {}).get('Message', '')}", 200)
            if code == "ResourceNotFoundException":
                where, close = "source.table", nearest(self._source.table, self._tables())
        elif isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            what, fix = "there are no credentials", "set AWS_ACCESS_KEY_ID or name source.resource"
            seen = type(error).__name__
        elif isinstance(error, exceptions.NoRegionError):
            what, fix, where = "there is no region", "set source.region", "source.region"
            seen = type(error).__name__
        else:
            what, fix = "it cannot be reached", "look at source.region and source.endpoint"
            seen, where = bounded(str(error), 200), "source.endpoint"
        raise SourceError(
            f"{self.origin[0]}: {what}.", seen=seen, where=where, close=close, fix=fix
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
    if isinstance(error, exceptions.EndpointConnectionError):
        text = str(getattr(error, "kwargs", {}).get("error", "")).lower()
        return not any(word in text for word in ("resolve", "not known", "getaddrinfo"))
    return isinstance(error, exceptions.HTTPClientError)


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
        raise SourceError(
            f"{source.address}: the connection is not fully described.",
            seen=bounded(str(error), 160),
            where="source.region",
            fix="set source.region, or AWS_REGION",
        ) from None


def _decoder() -> Any:
    from boto3.dynamodb.types import Binary, TypeDeserializer

    deserialize = TypeDeserializer().deserialize

    def plain(value: Any) -> Any:
        if isinstance(value, Binary):
            return bytes(value)
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return {plain(inner) for inner in value} if isinstance(value, set) else value

    return lambda item: {name: plain(deserialize(cell)) for name, cell in item.items()}


class _Export:
    """`data/*.json.gz` under the folder, each line one item."""

    def __init__(
        self, source: DynamoSource, contract: Contract, settings: StoreSettings | None
    ) -> None:
        from etl_ml.lake.stores import open_store

        assert source.export is not None
        self._documents = Documents(contract)
        self.schema = self._documents.schema
        self.origin: tuple[str, ...] = (source.address,)
        self._store, self._prefix = open_store(source.export, settings)
        root = self._prefix.strip("/")
        names = sorted(
            str(meta["path"]) for page in self._store.list(root or None) for meta in page
        )
        self._files = [name for name in names if "/data/" in f"/{name}" and ".json" in name]
        if not self._files:
            raise SourceError(
                f"{source.address}: there is no data/*.json.gz.",
                where="source.export",
                fix="name the folder that holds data/ and manifest-summary.json; choose the "
                "export format DynamoDB JSON",
            )
        self.total = self._expected(names)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        decode, rows, count = _decoder(), [], 0
        for name in self._files:
            for number, line in enumerate(self._lines(name), start=1):
                try:
                    item = json.loads(line)["Item"]
                    rows.append(decode(_binary(item)))
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    raise SourceError(
                        f"{self.origin[0]}: line {number} of {name} is not an item.",
                        seen=type(error).__name__,
                        where="source.export",
                        fix="export again, in DynamoDB JSON",
                    ) from None
                count += 1
                if len(rows) >= _ROWS:
                    yield self._documents.batch(rows)
                    rows = []
        if rows:
            yield self._documents.batch(rows)
        if self.total is not None and count != self.total:
            raise SourceError(
                f"{self.origin[0]}: {count} items, but its manifest says {self.total}.",
                where="source.export",
                fix="copy the export again: a file is missing or cut short",
            )

    def clock(self) -> datetime | None:
        return None

    def _lines(self, name: str) -> Iterator[bytes]:
        data = bytes(self._store.get(name).bytes())
        try:
            stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if name.endswith(".gz") else None
            for line in stream or io.BytesIO(data):
                if line.strip():
                    yield line
        except (EOFError, gzip.BadGzipFile) as error:
            raise SourceError(
                f"{self.origin[0]}: {name} is damaged.",
                seen=str(error),
                where="source.export",
                fix="copy the export again",
            ) from None

    def _expected(self, names: list[str]) -> int | None:
        found = [name for name in names if name.endswith("manifest-summary.json")]
        if len(found) != 1:
            return None
        count = json.loads(bytes(self._store.get(found[0]).bytes())).get("itemCount")
        return count if isinstance(count, int) else None


def _binary(item: Any) -> Any:
    """In a file binary is base64; from the API it comes as bytes."""
    import base64

    if isinstance(item, dict):
        if set(item) == {"B"} and isinstance(item["B"], str):
            return {"B": base64.b64decode(item["B"])}
        if set(item) == {"BS"} and isinstance(item["BS"], list):
            return {"BS": [base64.b64decode(value) for value in item["BS"]]}
        return {name: _binary(value) for name, value in item.items()}
    return [_binary(value) for value in item] if isinstance(item, list) else item
