"""A lake in MongoDB: files in GridFS, rows as documents, every commit one insert.

Collections of the database, beside GridFS's `lake.files` and `lake.chunks`:

- `lake.names`: an object a document, `_id` its name; up to 64 KiB are kept in it, more in GridFS
- `lake.commits`: a version of a table a document, `_id` its path and number: of two writers of one
  version one is refused by the unique index
- `<pipeline>.tables.<asset>`: a row a document, `{part, row: {…}}`; a commit names its parts, so
  that a version which appends shares the rows before it
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from etl_ml.lake.backend import Entry, Moved, Scan, Unreachable, Written
from etl_ml.lake.backoff import AGAIN, pause
from etl_ml.lake.bson_rows import decoded, encoded_rows
from etl_ml.lake.content import Sum, comparable, together
from etl_ml.lake.contention import attempts
from etl_ml.lake.manifest import UnreadableVersion
from etl_ml.lake.mongo_files import MongoFiles, again, client_of, unreachable
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.source import public

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from etl_ml.lake.content import Counted

_BATCH = 1_000
_DUPLICATE = 11_000
_ROWS_READ = 10_000


class MongoBackend(MongoFiles):
    """Files and tables in one database."""

    @classmethod
    def open(cls, uri: str) -> MongoBackend:
        """The lake in the database that a connection string names.

        Raises
        ------
        EtlMlError
            The connection string is none, or names no database.
        """
        from bson.codec_options import CodecOptions
        from pymongo.errors import InvalidURI, PyMongoError
        from pymongo.read_concern import ReadConcern
        from pymongo.uri_parser import parse_uri
        from pymongo.write_concern import WriteConcern

        shown = public(uri)
        try:
            name = parse_uri(uri)["database"] if uri.startswith("mongodb://") else _srv_name(uri)
        except (InvalidURI, ValueError):
            raise EtlMlError(
                f"{shown} is no connection string.",
                where="the lake's URL",
                fix="write mongodb://host/database; percent-encode user and password",
            ) from None
        if not name:
            raise EtlMlError(
                f"{shown} names no database.",
                where="the lake's URL",
                fix="write mongodb://host/database",
            )
        try:
            client = client_of(uri, os.getpid())
        except PyMongoError as error:  # of mongodb+srv, the name has to be resolved first
            raise unreachable("the lake", "opened", shown, error) from None
        options: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=UTC)
        database = client.get_database(
            name,
            codec_options=options,
            write_concern=WriteConcern("majority", j=True),
            read_concern=ReadConcern("majority"),
        )
        return cls(shown, database)

    def write_table(
        self, path: str, rows: Counted, metadata: Mapping[str, str], near: int | None = None
    ) -> Written:
        for wait in attempts(path, self.url):
            handle = self.open_table(path) or self.create_table(path, rows.schema)
            try:
                return handle.write(rows, metadata, replace=True)
            except Moved:  # another writer's version came first, so this one is next
                wait()
        raise AssertionError

    def open_table(self, path: str) -> _Handle | None:
        ask = partial(self._commits.find_one, {"path": path}, sort=[("version", -1)])
        found = self._ask("read", path, ask)
        return None if found is None else _Handle(self, found)

    def create_table(self, path: str, schema: pa.Schema) -> _Handle:
        from pymongo.errors import DuplicateKeyError

        commit = _commit(path, 0, schema, [], 0, {}, 0, Sum(schema.names).content)

        def once() -> _Handle:
            # The one index that reads need; making it again is without effect.
            self._rows(path).create_index([("part", 1), ("_id", 1)])
            self._commits.create_index([("path", 1), ("version", -1)])
            self._names.create_index("folder")
            try:
                self._commits.insert_one(commit)
            except DuplicateKeyError:  # another writer made it first, or it arrived all the same
                handle = self.open_table(path)
                assert handle is not None
                return handle
            return _Handle(self, commit)

        return self._ask("written", path, once)

    def table_metadata(self, path: str, version: int) -> Mapping[str, str]:
        found = self._committed(path, version)
        return dict(found["metadata"]) if found else {}

    def _committed(self, path: str, version: int) -> Mapping[str, Any] | None:
        ask = partial(self._commits.find_one, {"_id": _commit_name(path, version)})
        found: Mapping[str, Any] | None = self._ask("read", path, ask)
        return found

    def scan_table(self, path: str, version: int) -> Scan:
        import polars as pl
        from polars.io.plugins import register_io_source

        found = self._committed(path, version)
        if found is None:
            raise FileNotFoundError(_commit_name(path, version))
        schema = _schema(found)

        def read(
            columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            batch_size: int | None,
        ) -> Iterator[pl.DataFrame]:
            wanted = list(schema.names) if columns is None else columns
            for frame in self._read(found, schema, wanted, n_rows):
                yield frame if predicate is None else frame.filter(predicate)

        shape: pl.DataFrame = pl.from_arrow(schema.empty_table())  # type: ignore[assignment]
        return Scan(register_io_source(read, schema=shape.schema), None)

    def seal(self, path: str, version: int) -> None:
        """A document has no entity tag: rows are compared with `content` as they are read."""

    def _read(
        self, commit: Mapping[str, Any], schema: pa.Schema, wanted: list[str], most: int | None
    ) -> Iterator[pl.DataFrame]:
        import polars as pl
        import pyarrow as pa

        path, count = commit["path"], 0
        # Only whole rows can be compared with what was committed.
        whole = most is None and set(wanted) == set(schema.names)
        found = Sum(wanted)
        chosen = pa.schema([schema.field(name) for name in wanted])
        pending: list[Any] = []
        for document in islice(self._documents(path, commit["parts"]), most):
            pending.append(document)
            if len(pending) == _ROWS_READ:
                frame = pl.DataFrame(decoded(pending, chosen))
                if whole:
                    found.add(frame)
                yield frame
                count, pending = count + len(pending), []
        count += len(pending)
        if most is None and count != commit["rows"]:
            raise self._damaged(commit, f"{count} of its {commit['rows']} rows are there")
        frame = pl.DataFrame(decoded(pending, chosen))
        if whole:
            found.add(frame)
            committed = commit.get("content")
            if comparable(committed, found.content) and committed != found.content:
                raise self._damaged(commit, "its rows are not those that were committed")
        yield frame

    def _damaged(self, commit: Mapping[str, Any], why: str) -> UnreadableVersion:
        return UnreadableVersion(
            f"{commit['path']}, version {commit['version']}: {why}.",
            where=f"{self.url}/{commit['path']}",
            fix="ask for an earlier version, or materialize the asset again",
        )

    def _documents(self, path: str, parts: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
        """Rows in an order in which reading can go on where the connection broke."""
        from pymongo.errors import AutoReconnect, CursorNotFound

        left, last, attempt = sorted(parts), None, 0
        while True:
            query: dict[str, Any] = {"part": {"$in": left}}
            if last is not None:
                behind = {"part": left[0], "_id": {"$gt": last}}
                query = {"$or": [behind, {"part": {"$in": left[1:]}}]}
            found = self._rows(path).find(query, batch_size=_ROWS_READ)
            try:
                with self._asking("read", path):
                    for document in found.sort([("part", 1), ("_id", 1)]):
                        if document["part"] != left[0]:
                            left = left[left.index(document["part"]) :]
                        last, attempt = document["_id"], 0
                        yield document
                return
            except Unreachable as error:
                broken = isinstance(error.__context__, AutoReconnect | CursorNotFound)
                if not broken or attempt == AGAIN:
                    raise
                pause(attempt)
                attempt += 1

    def unneeded(self, path: str, versions: Collection[int], before: datetime) -> Iterable[Entry]:
        from bson import ObjectId

        names = [_commit_name(path, version) for version in versions]
        rows, oldest_kept = self._rows(path), ObjectId.from_datetime(before)

        def once() -> list[Entry]:
            commits = self._commits.find({"_id": {"$in": names}})
            kept = {part for commit in commits for part in commit["parts"]}
            return [
                Entry(str(part), rows.count_documents({"part": part}), part.generation_time)
                for part in rows.distinct("part", {"part": {"$lt": oldest_kept}})
                if part not in kept
            ]

        return self._ask("listed", path, once)

    def discard(self, path: str, entries: Iterable[Entry]) -> None:
        from bson import ObjectId

        for entry in entries:
            part = {"part": ObjectId(entry.name)}
            self._ask("removed", path, partial(self._rows(path).delete_many, part))

    def _insert(self, path: str, documents: list[dict[str, Any]]) -> None:
        """Insert rows, some of which may be there: their answer was lost."""
        from pymongo.errors import BulkWriteError

        try:
            self._rows(path).insert_many(documents, ordered=False)
        except BulkWriteError as error:
            told = error.details or {}
            others = [e for e in told.get("writeErrors", ()) if e["code"] != _DUPLICATE]
            if others or told.get("writeConcernErrors"):
                raise

    def _insert_commit(self, commit: Mapping[str, Any], part: Any) -> None:
        from pymongo.errors import DuplicateKeyError

        try:
            self._commits.insert_one(commit)
        except DuplicateKeyError:
            found = self._commits.find_one({"_id": commit["_id"]})
            if found is None or part not in found["parts"]:
                raise Moved(commit["path"]) from None

    @property
    def _commits(self) -> Any:
        return self._database["lake.commits"]

    def _rows(self, path: str) -> Any:
        return self._database[path.replace("/", ".")]


class _Handle:
    """A table as it was when it was opened, and the one commit that may follow on it."""

    def __init__(self, backend: MongoBackend, commit: Mapping[str, Any]) -> None:
        self._backend, self._commit, self._path = backend, commit, str(commit["path"])
        self.version = int(commit["version"])
        self.transactions = int(commit["transactions"])

    @property
    def rows(self) -> int:
        return int(self._commit["rows"])

    @property
    def metadata(self) -> Mapping[str, str]:
        return dict(self._commit["metadata"])

    def scan(self) -> pl.LazyFrame:
        return self._backend.scan_table(self._path, self.version).rows

    def checkpoint(self) -> None:
        """A commit is a document of its own, found by an index."""

    def commit(self, rows: Counted, metadata: Mapping[str, str], *, replace: bool) -> Written:
        return self.write(rows, metadata, replace=replace, transaction=self.transactions + 1)

    def write(
        self, rows: Counted, metadata: Mapping[str, str], *, replace: bool, transaction: int = 0
    ) -> Written:
        """One commit on this very version; `Moved` if it is not the head any more."""
        import pyarrow as pa
        from bson import ObjectId

        backend, path, part, count = self._backend, self._path, ObjectId(), 0
        schema = rows.schema
        if not replace:
            schema = pa.unify_schemas([_schema(self._commit), schema])
        try:
            with backend._asking("written", path):
                for documents in encoded_rows(rows, part, _BATCH):
                    again(partial(backend._insert, path, documents))
                    count += len(documents)
                parts = [part] if replace else [*self._commit["parts"], part]
                total = count if replace else self.rows + count
                before = self._commit.get("content")
                content = rows.content if replace else together(before, rows.content)
                commit = _commit(
                    path, self.version + 1, schema, parts, total, metadata, transaction, content
                )
                again(partial(backend._insert_commit, commit, part))
        except Exception as error:
            if isinstance(error, Moved) or not isinstance(error, Unreachable):
                backend._rows(path).delete_many({"part": part})  # else it is for vacuum
            raise
        return Written(self.version + 1, total, None)


def _commit(
    path: str,
    version: int,
    schema: pa.Schema,
    parts: list[Any],
    rows: int,
    metadata: Mapping[str, str],
    transactions: int,
    content: str | None,
) -> dict[str, Any]:
    return {
        "_id": _commit_name(path, version),
        "path": path,
        "version": version,
        "schema": schema.remove_metadata().serialize().to_pybytes(),
        "parts": parts,
        "rows": rows,
        "metadata": dict(metadata),
        "transactions": transactions,
        "content": content,
        "modified": datetime.now(UTC),
    }


def _commit_name(path: str, version: int) -> str:
    return f"{path}/{version:010d}"


def _schema(commit: Mapping[str, Any]) -> pa.Schema:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(commit["schema"]))


def _srv_name(uri: str) -> str:
    """The database of a mongodb+srv:// URI, without asking DNS."""
    return uri.partition("://")[2].partition("/")[2].partition("?")[0]
