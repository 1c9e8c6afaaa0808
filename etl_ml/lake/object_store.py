"""A lake in an object store or a folder: files by obstore, tables by Delta Lake."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.lake.backend import Entry, Moved, Scan, Written
from etl_ml.lake.contention import attempts
from etl_ml.lake.identity import ROW
from etl_ml.lake.parquet_file import ParquetFile
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
}


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
        """A lake in a folder, which is made if it is missing."""
        from obstore.store import LocalStore

        root = root.expanduser().resolve()
        return cls(str(root), LocalStore(root, mkdir=True), folder=root)

    @classmethod
    def remote(cls, url: str, settings: StoreSettings | None = None) -> ObjectStoreBackend:
        """A lake in a bucket or container; see `open_store`."""
        url = url.rstrip("/")
        store, root = open_store(url, settings)
        return cls(url, store, root, options=lambda: delta_options(url, settings))

    def write_table(self, path: str, rows: Counted, metadata: Mapping[str, str]) -> Written:
        for wait in attempts(path, self.url):
            handle = self.open_table(path) or self.create_table(path, rows.schema)
            try:
                if rows.file is not None and handle.suits(rows.file):
                    return handle.take(rows.file, metadata)
                return handle.write(_Stream(rows), metadata, "overwrite")
            except Moved:  # another writer's version came first, so this one is next
                wait()
        raise AssertionError

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
        entries = self.get(f"{path}/_delta_log/{version:020d}.json") or b""
        actions = [json.loads(line) for line in entries.splitlines() if line.strip()]
        stamps: list[dict[str, str]] = [a["commitInfo"] for a in actions if "commitInfo" in a]
        return stamps[0] if stamps else {}

    def scan_table(self, path: str, version: int) -> Scan:
        import polars as pl

        table = self._delta(path, version)
        # Polars takes Delta's options, and wants a number for this one.
        options = {"max_retries": RETRIES} if self._folder is None else None
        return Scan(pl.scan_delta(table, storage_options=options), self.seal_of(path, table))

    def seal(self, path: str, version: int) -> str:
        return self.seal_of(path, self._delta(path, version))

    def seal_of(self, path: str, table: DeltaTable) -> str:
        """A digest of what the store says of a table's Parquet files; see `Scan`."""
        import obstore

        files = _files(table)
        with self._asking("listed", path):
            there = obstore.list_with_delimiter(self._store, self._at(path))["objects"]
        known = {f["path"].rpartition("/")[2]: f"{f['size']} {f['e_tag']}" for f in there}
        told = "".join(f"{file} {known.get(file)}\n" for file in sorted(files))
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()

    def unneeded(self, path: str, versions: Collection[int], before: datetime) -> Iterable[Entry]:
        kept: set[str] = set()
        for version in versions:
            kept |= self.files_of(path, version)
        for entry in self.walk(f"{path}/"):
            file = entry.name.removeprefix(f"{path}/")
            rows = file.endswith(".parquet") and not file.startswith("_delta_log/")
            if rows and file not in kept and entry.modified < before:
                yield entry

    def files_of(self, path: str, version: int) -> set[str]:
        """Names of the Parquet files of a table's version, relative to the table."""
        return _files(self._delta(path, version))

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
        self._backend, self._path, self._table = backend, path, table
        self.version = table.version()
        self.transactions = table.transaction_version(path) or 0

    @property
    def rows(self) -> int:
        return self._table.count()

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._backend.table_metadata(self._path, self.version)

    def scan(self) -> pl.LazyFrame:
        return self._backend.scan_table(self._path, self.version).rows

    def commit(self, rows: Counted, metadata: Mapping[str, str], *, replace: bool) -> Written:
        mode = "overwrite" if replace else "append"
        return self.write(_Stream(rows), metadata, mode, self.transactions + 1)

    def suits(self, file: ParquetFile) -> bool:
        """Whether a Parquet file can become the table's as it is."""
        from deltalake import Schema

        return file.is_plain and self._table.schema() == Schema.from_arrow(file.schema)

    def take(self, file: ParquetFile, metadata: Mapping[str, str]) -> Written:
        """Replace the table's content by a Parquet file; `Moved` as `write`."""
        from deltalake import CommitProperties
        from deltalake.transaction import AddAction

        name, rows = f"part-00000-{uuid.uuid4()}-c000.snappy.parquet", file.rows
        size, now = file.path.stat().st_size, int(time.time() * 1000)
        stats = json.dumps({"numRecords": rows})
        self._backend.put(f"{self._path}/{name}", file.path)

        def commit() -> None:
            self._table.create_write_transaction(
                [AddAction(name, size, {}, now, data_change=True, stats=stats)],
                "overwrite",
                file.schema,
                commit_properties=CommitProperties(
                    custom_metadata=dict(metadata), max_commit_retries=0
                ),
            )

        try:
            self._committed(commit, metadata)
        except Moved:
            self._backend.delete(f"{self._path}/{name}")
            raise
        return self._written()

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
                self._table,
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
        table, version = self._table, self.version + 1
        if table.version() != version:
            table = self._backend._delta(self._path, version)
        return Written(version, table.count(), self._backend.seal_of(self._path, table))

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


def _files(table: DeltaTable) -> set[str]:
    """Names of a table's Parquet files, relative to it."""
    import polars as pl

    return set(pl.DataFrame(table.get_add_actions(flatten=True))["path"])


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
