"""MongoDB: one collection, in batches of documents, in the order of `_id`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote_plus

from etl_ml.extract.decoding import ID, Decoder, last_id, roots
from etl_ml.extract.raw_batches import find_raw_batches
from etl_ml.extract.reader import Since
from etl_ml.extract.source_error import SourceError
from etl_ml.lake.backoff import Backoff
from etl_ml.spec.contract import Contract
from etl_ml.spec.error import bounded, listed, nearest
from etl_ml.spec.source import MongoSource

if TYPE_CHECKING:
    import pyarrow as pa
    from pymongo import MongoClient
    from pymongo.collection import Collection

_SELECTION_SECONDS = 15
# Codes of the server's answers that mean: ask again.
_HEALS = {6, 7, 43, 63, 89, 91, 133, 134, 150, 189, 234, 237, 262, 9001, 10107, 11600, 11602}
_HEALS |= {13388, 13435, 13436}


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
        self._filter = self._query(since)
        self.schema: pa.Schema = self._decoder().schema
        self.unique_ids = False
        self._check()
        self.total = self._count(since)

    def clock(self) -> datetime | None:
        told: datetime = self._client.admin.command("hello")["localTime"]
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
                if not _heals(error):
                    self._explain(error)
                try:
                    backoff.wait(error)
                except PyMongoError:
                    self._explain(error)

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
            self._collection,
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
        from bson import ObjectId, json_util

        query: dict[str, Any] = json_util.loads(
            json_util.dumps(self._source.query),
            json_options=json_util.JSONOptions(tz_aware=True, tzinfo=UTC),
        )
        if since is None:
            return query
        position: Any = since.position
        if since.cursor == ID and isinstance(position, str) and ObjectId.is_valid(position):
            position = ObjectId(position)
        newer = {since.cursor: {"$gte": position}}
        return {"$and": [query, newer]} if query else newer

    @cached_property
    def _client(self) -> MongoClient[dict[str, Any]]:
        from pymongo import MongoClient
        from pymongo.errors import ConfigurationError, InvalidURI

        uri = self._source.uri.get_secret_value()
        options: dict[str, Any] = {"appname": "etl_ml"}
        if "serverselectiontimeoutms" not in uri.lower():
            options["serverSelectionTimeoutMS"] = _SELECTION_SECONDS * 1000
        try:
            return MongoClient(uri, **options)
        except (InvalidURI, ConfigurationError, ValueError) as error:
            # What is taken for the database may be half of a password.
            secret = isinstance(error, InvalidURI) and "@" in uri
            told = "it cannot be parsed" if secret else self._without_secret(error)
            self._refuse(
                f"the URI cannot be used: {told}",
                "correct source.uri; percent-encode user and password",
            )

    @cached_property
    def _collection(self) -> Collection[dict[str, Any]]:
        from pymongo.read_preferences import make_read_preference, read_pref_mode_from_name

        mode = read_pref_mode_from_name(self._source.read_preference)
        database = self._client[self._source.database]
        return database.get_collection(
            self._source.collection, read_preference=make_read_preference(mode, None)
        )

    def _check(self) -> None:
        """Ask the server once, so that what is wrong is said before any work."""
        from pymongo.errors import OperationFailure, PyMongoError

        database, collection = self._source.database, self._source.collection
        try:
            self._client.admin.command("ping")
            try:
                entries = list(self._client[database].list_collections())
                known = [entry["name"] for entry in entries]
                self.unique_ids = not any(
                    entry["name"] == collection and entry.get("type") == "view" for entry in entries
                )
            except OperationFailure as error:
                if error.code != 13:
                    raise
                known = [collection]  # may read it, but not list it
            self._collection.find_one(self._filter, projection={ID: 1})
            if collection not in known:
                self._is_not_there(known)
        except PyMongoError as error:
            self._explain(error)

    def _is_not_there(self, known: list[str]) -> NoReturn:
        database = self._source.database
        if not known:
            names = self._client.list_database_names()
            close = nearest(database, names)
            raise SourceError(
                f"{self.origin[0]}: there is no database {database!r}, or it is empty.",
                seen=f"the server has {listed(names)}",
                where="source.database",
                close=close and repr(close),
                fix="correct the name",
            )
        close = nearest(self._source.collection, known)
        raise SourceError(
            f"{self.origin[0]}: there is no collection {self._source.collection!r}.",
            seen=f"{database} has {listed(sorted(known))}",
            where="source.collection",
            close=close and repr(close),
            fix="correct the name",
        )

    def _count(self, since: Since | None) -> int | None:
        from pymongo.errors import PyMongoError

        if since is not None or self._source.query:
            return None
        try:
            return self._collection.estimated_document_count()
        except PyMongoError:
            return None  # only an estimate of the time that is left

    def _explain(self, error: Exception) -> NoReturn:
        from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

        if isinstance(error, OperationFailure):
            if error.code in (18, 8000) or "uthentication failed" in str(error):
                self._refuse("the server refuses the user", "correct user and password in the URI")
            if error.code == 13:
                self._refuse(
                    f"the user may not read {self._source.database}.{self._source.collection}",
                    "grant the role `read` on the database",
                )
            place = "source.query" if error.code in (2, 9, 14, 51075) else "source"
            self._refuse(
                f"the server answers {self._without_secret(error.details or error)}",
                "correct it, or look at the server's log",
                place,
            )
        if isinstance(error, ServerSelectionTimeoutError):
            self._refuse(
                f"no server answers: {self._without_secret(error)}",
                "correct the host in source.uri; look at the network, TLS and access list",
            )
        self._refuse(f"the connection is lost: {self._without_secret(error)}", "run it again")

    def _refuse(self, problem: str, fix: str, where: str = "source.uri") -> NoReturn:
        raise SourceError(f"{self.origin[0]}: {problem}.", where=where, fix=fix) from None

    def _without_secret(self, error: object) -> str:
        if isinstance(error, Mapping):
            error = error.get("errmsg", "with an error")
        text = re.split(r", Timeout: | \(configured timeouts", str(error), maxsplit=1)[0]
        secret = self._source.uri.get_secret_value().partition("://")[2].rpartition("@")[0]
        password = secret.partition(":")[2]
        for part in (secret, password, unquote_plus(password)):
            text = text.replace(part, "…") if len(part) > 2 else text
        return bounded(text.rstrip("."), 200).strip("'\"")


def _heals(error: Exception) -> bool:
    """Whether the same question may be answered later."""
    from pymongo.errors import AutoReconnect, OperationFailure, ServerSelectionTimeoutError

    if isinstance(error, ServerSelectionTimeoutError):
        return "Name or service not known" not in str(error)
    if isinstance(error, OperationFailure):
        return error.code in _HEALS or error.has_error_label("RetryableError")
    return isinstance(error, AutoReconnect)
