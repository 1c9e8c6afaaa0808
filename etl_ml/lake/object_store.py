"""A lake in an object store or a folder: files by obstore, tables by Delta Lake."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.lake.backend import AlreadyExists, Entry, Moved, Scan, Unreachable, Written
from etl_ml.lake.contention import attempts
from etl_ml.lake.delta_log import Replacement, entry_name
from etl_ml.lake.identity import ROW
from etl_ml.lake.parquet_file import ParquetFile
from etl_ml.lake.pieces import size_of
from etl_ml.lake.stored_files import StoredFiles, answered
from etl_ml.lake.stores import RETRIES, StoreSettings, delta_options, open_store

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from deltalake import DeltaTable, WriterProperties
    from obstore.store import ObjectStore

    from etl_ml.lake.content import Counted

_TABLE = {
    # Only the lake's own vacuum removes anything, by manifest.
    "delta.enableExpiredLogCleanup": "false",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    # Who opens a table reads the log from its last checkpoint.
    "delta.checkpointInterval": "10",
}
_CHECKPOINT_AFTER = 10


class ObjectStoreBackend(StoredFiles):
    """Files and Delta tables under one root.

    Parameters
    ----------
    url : shown to people, and the root for Delta Lake
    store : the obstore store
    root : the lake's prefix in the store
    folder : the same root, where it is a folder
    options : Delta Lake's storage options, asked anew for each table: credentials expire
    """

    def __init__(
        self,
        url: str,
        store: ObjectStore,
        root: str = "",
        folder: Path | None = None,
        options: Callable[[], dict[str, str]] = dict,
    ) -> None:
        super().__init__(url, store, root, folder)
        self._options = options

    @classmethod
    def local(cls, root: Path) -> ObjectStoreBackend:
        """A lake in a folder, which is made if it is missing.

        Raises
        ------
        Unreachable
            It is not there and cannot be made.
        """
        from obstore.store import LocalStore

        root = root.expanduser().resolve()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unreachable(
                f"the lake's folder cannot be made: {error.strerror}.",
                where=str(root),
                fix="correct the path, or make a folder there that may be written",
            ) from None
        return cls(str(root), LocalStore(root), folder=root)

    @classmethod
    def remote(cls, url: str, settings: StoreSettings | None = None) -> ObjectStoreBackend:
        """A lake in a bucket or container; see `open_store`."""
        url = url.rstrip("/")
        store, root = open_store(url, settings)
        return cls(url, store, root, options=lambda: delta_options(url, settings))

    def write_table(
        self, path: str, rows: Counted, metadata: Mapping[str, str], near: int | None = None
    ) -> Written:
        if rows.file is not None and rows.file.is_plain:
            return self._take(path, rows.file, metadata, near)
        for wait in attempts(path, self.url):
            handle = self.open_table(path) or self.create_table(path, rows.schema)
            try:
                return handle.write(_Stream(rows), metadata, "overwrite")
            except Moved:  # another writer's version came first, so this one is next
                wait()
        raise AssertionError

    def _take(
        self, path: str, file: ParquetFile, metadata: Mapping[str, str], near: int | None
    ) -> Written:
        """Replace a table's content by a Parquet file as it is."""
        from deltalake import Schema

        schema, rows, size = Schema.from_arrow(file.schema).to_json(), file.rows, size_of(file.path)
        before = self._before(path, file, near)
        name = f"part-00000-{uuid.uuid4()}-c000.snappy.parquet"
        tag = self.tagged(f"{path}/{name}", file.path)
        for attempt, wait in enumerate(attempts(path, self.url)):
            version = before.version + 1
            entry = before.followed_by(name, size, rows, schema, metadata)
            try:
                self.create(entry_name(path, version), entry)
            except AlreadyExists:  # another writer's version came first, so this one is next
                if attempt:
                    wait()
                    before = self._before(path, file, None)
                else:  # one that a killed writer left, most likely
                    before = self._replacement(path, version) or self._before(path, file, None)
                continue
            told = _seal({name: (size, tag)}) if tag else self._seal(path, {name: size})
            return Written(version, rows, told)
        raise AssertionError

    def _before(self, path: str, file: ParquetFile, near: int | None) -> Replacement:
        """The state that a version follows on: the one nearby where that tells it, else the head.

        Where it is not the head any more, its follower exists already.
        """
        found = self._replacement(path, near) if near is not None else None
        if found is None:
            handle = self.open_table(path) or self.create_table(path, file.schema)
            found = Replacement.of(handle.table)
        return found

    def _replacement(self, path: str, version: int) -> Replacement | None:
        data = self.get(entry_name(path, version))
        return Replacement.parse(version, data) if data else None

    def open_table(self, path: str) -> _DeltaHandle | None:
        from deltalake.exceptions import TableNotFoundError

        try:
            return _DeltaHandle(self, path, self._delta(path))
        except TableNotFoundError:
            return None

    def create_table(self, path: str, schema: pa.Schema) -> _DeltaHandle:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        def make() -> DeltaTable:
            location, options = f"{self.url}/{path}", self._options()
            with self._asking("written", path):
                try:
                    return DeltaTable.create(
                        location, schema, configuration=_TABLE, storage_options=options
                    )
                except DeltaError:  # another writer made it first, or ours arrived all the same
                    if self.open_table(path) is None:
                        raise
                    return self._delta(path)

        return _DeltaHandle(self, path, answered(make))

    def table_metadata(self, path: str, version: int) -> Mapping[str, str]:
        # Delta's own history starts at its head, whichever version was opened.
        entries = self.get(entry_name(path, version)) or b""
        actions = [json.loads(line) for line in entries.splitlines() if line.strip()]
        stamps: list[dict[str, str]] = [a["commitInfo"] for a in actions if "commitInfo" in a]
        return stamps[0] if stamps else {}

    def scan_table(self, path: str, version: int) -> Scan:
        import polars as pl

        # Polars takes Delta's options, and wants a number for this one.
        tries = {"max_retries": RETRIES} if self._folder is None else {}
        if found := self._replacement(path, version):
            options: Any = {**self._options(), **tries} or None
            files = [f"{self.url}/{path}/{name}" for name in found.files]
            rows = pl.scan_parquet(
                files, storage_options=options, glob=False, hive_partitioning=False
            )
            return Scan(rows, self._seal(path, found.files))
        table = self._delta(path, version)
        rows = pl.scan_delta(table, storage_options=tries or None)
        return Scan(rows, self._seal(path, Replacement.of(table).files))

    def seal(self, path: str, version: int) -> str:
        return self._seal(path, self._files(path, version))

    def _seal(self, path: str, files: Mapping[str, int]) -> str:
        """A digest of what the store says of a table's Parquet files; see `Scan`."""
        import obstore

        with self._asking("read", path):
            if len(files) == 1:
                there = [obstore.head(self._store, self._at(f"{path}/{name}")) for name in files]
            else:
                there = list(obstore.list_with_delimiter(self._store, self._at(path))["objects"])
        known = {f["path"].rpartition("/")[2]: (f["size"], f["e_tag"]) for f in there}
        return _seal({name: known.get(name) for name in files})

    def unneeded(self, path: str, versions: Collection[int], before: datetime) -> Iterable[Entry]:
        kept: set[str] = set()
        for version in versions:
            kept |= self._files(path, version).keys()
        for entry in self.walk(f"{path}/"):
            file = entry.name.removeprefix(f"{path}/")
            rows = file.endswith(".parquet") and not file.startswith("_delta_log/")
            if rows and file not in kept and entry.modified < before:
                yield entry

    def _files(self, path: str, version: int) -> Mapping[str, int]:
        """Names and sizes of the Parquet files of a table's version."""
        found = self._replacement(path, version)
        return (found or Replacement.of(self._delta(path, version))).files

    def discard(self, path: str, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.delete(entry.name)

    def _delta(self, path: str, version: int | None = None) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        location, options = f"{self.url}/{path}", self._options() or None
        with self._asking("read", path):
            try:
                return DeltaTable(location, version=version, storage_options=options)
            except DeltaError as error:  # so it says in a store, where there are no folders
                if "No files in log segment" in str(error):
                    raise TableNotFoundError(str(error)) from None
                raise


class _DeltaHandle:
    """A Delta table that was opened once. Delta accepts a replay by path, and doubles the rows."""

    def __init__(self, backend: ObjectStoreBackend, path: str, table: DeltaTable) -> None:
        self._backend, self._path, self.table = backend, path, table
        self.version = table.version()
        self.transactions = table.transaction_version(path) or 0

    @property
    def rows(self) -> int:
        return self.table.count()

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._backend.table_metadata(self._path, self.version)

    def scan(self) -> pl.LazyFrame:
        return self._backend.scan_table(self._path, self.version).rows

    def checkpoint(self) -> None:
        known = json.loads(self._backend.get(f"{self._path}/_delta_log/_last_checkpoint") or b"{}")
        if self.version - int(known.get("version", 0)) >= _CHECKPOINT_AFTER:
            with self._backend._asking("written", self._path):
                self.table.create_checkpoint()

    def commit(self, rows: Counted, metadata: Mapping[str, str], *, replace: bool) -> Written:
        mode = "overwrite" if replace else "append"
        return self.write(_Stream(rows), metadata, mode, self.transactions + 1)

    def write(
        self, stream: _Stream, metadata: Mapping[str, str], mode: str, transaction: int = 0
    ) -> Written:
        """One commit on this very version; `Moved` if it is not the head any more."""
        from deltalake import CommitProperties, Transaction, write_deltalake

        properties = CommitProperties(
            custom_metadata=dict(metadata),
            # Delta would rebase a lost commit by itself: rows read from one cursor would follow
            # those that another writer has read from it.
            max_commit_retries=0,
            app_transactions=[Transaction(self._path, transaction)] if transaction else None,
        )

        def commit() -> None:
            write_deltalake(  # type: ignore[call-overload]
                self.table,
                stream.reader(),
                mode=mode,
                schema_mode="merge" if mode == "append" else "overwrite",
                commit_properties=properties,
                writer_properties=_parquet(stream.schema),
            )

        try:
            self._committed(commit, metadata)
        except Exception:
            if stream.failure is not None:
                raise stream.failure from None
            raise
        return self._written()

    def _written(self) -> Written:
        """The commit that followed; where its answer was lost, the table has to be opened anew."""
        table, version = self.table, self.version + 1
        if table.version() != version:
            table = self._backend._delta(self._path, version)
        files = Replacement.of(table).files
        return Written(version, table.count(), self._backend._seal(self._path, files))

    def _committed(self, commit: Callable[[], None], metadata: Mapping[str, str]) -> None:
        """Commit once, and find out whose commit came after this version where it seemed to fail.

        It may have arrived though its answer did not.
        """

        def once() -> None:
            try:
                with self._backend._asking("written", self._path):
                    commit()
            except Exception as error:
                found = self._backend.table_metadata(self._path, self.version + 1)
                if not found:
                    raise
                if not metadata or not metadata.items() <= found.items():
                    raise Moved(str(error)) from None

        answered(once)


def _seal(files: Mapping[str, tuple[int, str | None] | None]) -> str:
    """A digest of sizes in bytes and entity tags by name; None for what is not there."""
    told = {name: f and [f[0], (f[1] or "").strip('"')] for name, f in files.items()}
    text = json.dumps(told, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _parquet(schema: pa.Schema) -> WriterProperties:
    """How tables are written: for half the CPU time and a third of the memory of the defaults.

    A dictionary pays for text, whose values come again, and not for numbers and identities.
    """
    import pyarrow as pa
    from deltalake import ColumnProperties, WriterProperties

    texts = [
        field.name
        for field in schema
        if (pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
        and field.name != ROW
    ]
    return WriterProperties(
        compression="SNAPPY",
        max_row_group_size=131_072,
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties={name: ColumnProperties(dictionary_enabled=True) for name in texts},
    )


class _Stream:
    """Rows on their way to Delta, whose writer says that a stream broke but not why."""

    def __init__(self, rows: Counted) -> None:
        self._rows = rows
        self.schema = rows.schema
        self.failure: Exception | None = None

    def reader(self) -> pa.RecordBatchReader:
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._rows
        except Exception as error:
            self.failure = error
            raise
