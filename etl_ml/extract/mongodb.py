"""MongoDB: one collection, in batches of documents, in the order of `_id`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from etl_ml.extract.decoding import ID, Decoder, last_id, roots
from etl_ml.extract.mongodb_collection import MongoCollection, heals
from etl_ml.extract.raw_batches import find_raw_batches
from etl_ml.extract.reader import Since
from etl_ml.lake.backoff import Backoff
from etl_ml.spec.contract import Contract
from etl_ml.spec.source import MongoSource

if TYPE_CHECKING:
    import pyarrow as pa


def open_mongodb(source: MongoSource, contract: Contract, since: Since | None) -> MongoReader:
    """Open a collection.

    Raises
    ------
    SourceError
        The server does not answer, refuses the user, or has no such collection.
    """
    return MongoReader(source, contract, since)


class MongoReader:
    """The documents of one collection; see `Reader`.

    Attributes
    ----------
    unique_ids : whether the server lets no two documents have one `_id`; not so for a view
    """

    def __init__(self, source: MongoSource, contract: Contract, since: Since | None) -> None:
        self._source, self._contract = source, contract
        self._strict = contract.unknown_columns == "fail"
        self.origin = (source.address,)
        self._there = MongoCollection(source)
        self._filter = self._query(since)
        self.schema: pa.Schema = self._decoder().schema
        self._there.check(self._filter)
        self.unique_ids = self._there.unique_ids
        self.total = self._count(since)

    def clock(self) -> datetime | None:
        told: datetime = self._there.client.admin.command("hello")["localTime"]
        return told.replace(tzinfo=UTC)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        from pymongo.errors import PyMongoError

        decoder, backoff = self._decoder(), Backoff()
        last: bytes | None = None
        while True:
            try:
                for raw in self._cursor(last):
                    if not raw:
                        continue
                    backoff.reset()
                    last = raw
                    yield decoder.batch(raw)
                return
            except PyMongoError as error:
                if not heals(error):
                    self._there.explain(error)
                try:
                    backoff.wait(error)
                except PyMongoError:
                    self._there.explain(error)

    def _decoder(self) -> Decoder:
        return Decoder(self._contract.columns, strict=self._strict)

    def _cursor(self, last: bytes | None) -> Any:
        """Raw batches from the beginning, or behind the last document that was handed on."""
        query = self._filter
        if last is not None:
            # In an expression, ids of all types have one order, as in the sort.
            behind = {"$expr": {"$gt": [f"${ID}", {"$literal": last_id(last)}]}}
            query = {"$and": [query, behind]}
        return find_raw_batches(
            self._there.collection,
            query,
            projection=self._projection(),
            sort=[(ID, 1)],
            batch_size=self._source.batch_size,
            allow_disk_use=True,
        )

    def _projection(self) -> dict[str, int] | None:
        if self._source.projection is not None:
            return dict.fromkeys(self._source.projection, 1)
        if self._strict:
            return None
        return dict.fromkeys(roots(self._contract.columns), 1)

    def _query(self, since: Since | None) -> dict[str, Any]:
        if since is None:
            return self._there.filter
        if since.until is None:
            return self._there.where(since.cursor, gte=since.position)
        return self._there.where(since.cursor, gte=since.position, lt=since.until)

    def _count(self, since: Since | None) -> int | None:
        from pymongo.errors import PyMongoError

        if since is not None or self._source.query:
            return None
        try:
            return self._there.collection.estimated_document_count()
        except PyMongoError:
            return None  # only an estimate of the time that is left
