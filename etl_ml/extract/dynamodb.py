"""DynamoDB: a parallel scan of a table, or its export to S3."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.aws import Service, complete
from etl_ml.extract.documents import Documents
from etl_ml.extract.dynamodb_items import decoder
from etl_ml.extract.pending import Held, marked
from etl_ml.spec.contract import Contract
from etl_ml.spec.error import nearest
from etl_ml.spec.source import DynamoSource

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_ml.extract.dynamodb_export import Export
    from etl_ml.lake.stores import StoreSettings

_ROWS, _PAGES = 10_000, 32  # a page has at most 1 MB
_BUSY = ("it stays too busy", "read with fewer segments or an export, or raise its read capacity")
_NAMED = {
    "ResourceNotFoundException": ("there is no such table", "correct source.table or region"),
    "AccessDeniedException": (
        "the credentials may not read it",
        "allow dynamodb:DescribeTable and dynamodb:Scan on it",
    ),
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
        self._service = Service("dynamodb", source, settings, _NAMED, source.segments + 1)
        self._client = self._service.client
        self._described = self._service.ask(
            lambda: self._client.describe_table(TableName=source.table),
            patience=10,
            fails=self._refuse,
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
                answer = self._service.ask(
                    lambda: complete(self._client.scan(**ask), "Items", self._client),
                    stop=stop,
                    fails=self._refuse,
                )
                _put(queue, [decode(item) for item in answer["Items"]], stop)
                if "LastEvaluatedKey" not in answer:
                    break
                ask["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        except BaseException as error:  # handed to the thread that reads
            end = error
        _put(queue, end, stop)

    def _refuse(self, error: Any) -> NoReturn:
        told = getattr(error, "response", {}).get("Error", {})
        if told.get("Code") != "ResourceNotFoundException":
            self._service.refuse(error)
        close = nearest(self._source.table, self._tables())
        self._service.refuse(error, where="source.table", close=close)

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
