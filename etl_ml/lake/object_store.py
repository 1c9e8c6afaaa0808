"""A lake in an object store or a folder: files by obstore, tables by Delta Lake."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.lake.backend import AlreadyExists, Batches, Moved
from etl_ml.lake.identity import ROW
from etl_ml.lake.parquet_file import DiskFull, ParquetFile, is_full, room, sink
from etl_ml.spec.error import EtlMlError, bounded

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from deltalake import DeltaTable, WriterProperties
    from obstore.store import ObjectStore

_TABLE = {
    # Only the lake's own vacuum removes anything, by manifest.
    "delta.enableExpiredLogCleanup": "false",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
_ATTEMPTS = 20


class Contended(EtlMlError):
    """Too many writers of one table at once."""


class ObjectStoreBackend:
    """Files and Delta tables under one root.

    Parameters
    ----------
    url : shown to people
    store : the obstore store, rooted at the lake
    tables : URL or path of the same root for Delta Lake
    folder : the same root, where it is a folder
    """

    def __init__(
        self, url: str, store: ObjectStore, tables: str, folder: Path | None = None
    ) -> None:
        self.url = url
        self._store = store
        self._tables = tables
        self._folder = folder

    @classmethod
    def local(cls, root: Path) -> ObjectStoreBackend:
        """A lake in a folder, which is made if it is missing."""
        from obstore.store import LocalStore

        root = root.expanduser().resolve()
        return cls(str(root), LocalStore(root, mkdir=True), str(root), root)

    def create(self, name: str, data: bytes | Path) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with self._writing(name):
                obstore.put(self._store, name, data, mode="create")
        except AlreadyExistsError:
            raise AlreadyExists(name) from None

    def put(self, name: str, data: bytes | Path) -> None:
        import obstore

        with self._writing(name):
            obstore.put(self._store, name, data)

    def get(self, name: str) -> bytes | None:
        import obstore

        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None

    def folders(self, prefix: str) -> list[str]:
        import obstore

        found = obstore.list_with_delimiter(self._store, prefix)
        return sorted(path.rsplit("/", 1)[-1] for path in found["common_prefixes"])

    def objects(self, prefix: str) -> list[str]:
        import obstore

        found = obstore.list_with_delimiter(self._store, prefix)
        return sorted(entry["path"].rsplit("/", 1)[-1] for entry in found["objects"])

    def write_table(
        self, path: str, rows: ParquetFile | pl.LazyFrame | Batches, metadata: Mapping[str, str]
    ) -> tuple[int, int]:
        import polars as pl

        if isinstance(rows, pl.LazyFrame):
            with tempfile.TemporaryDirectory(prefix="etl_ml_") as folder:
                file = ParquetFile(Path(folder, "rows.parquet"))
                with room(Path(folder)):
                    sink(rows, file.path).collect(engine="streaming")
                return self.write_table(path, file, metadata)
        for attempt in range(_ATTEMPTS):
            handle = self.open_table(path) or self.create_table(path, rows.schema)
            try:
                if isinstance(rows, ParquetFile) and handle.suits(rows):
                    return handle.take(rows, metadata)
                return handle.write(_Stream(rows), metadata, "overwrite")
            except Moved:
                # Another writer's version came first, so this one is next.
                time.sleep(random.uniform(0, 0.1 * 2 ** min(attempt, 6)))
        raise Contended(
            f"{path}: {_ATTEMPTS} commits in a row lost to other writers.",
            where=self.url,
            fix="run fewer materializations of this asset at once, then run this one again",
        )

    def open_table(self, path: str) -> _DeltaHandle | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return _DeltaHandle(self, path, DeltaTable(f"{self._tables}/{path}"))
        except TableNotFoundError:
            return None

    def create_table(self, path: str, schema: pa.Schema) -> _DeltaHandle:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        location = f"{self._tables}/{path}"
        with self._writing(path):
            try:
                table = DeltaTable.create(location, schema, configuration=_TABLE)
            except DeltaError:  # another writer made it first
                table = DeltaTable(location)
        return _DeltaHandle(self, path, table)

    def link(self, name: str, file: Path) -> None:
        """Put a local file, without a copy where the lake is on the same disk."""
        if self._folder is not None:
            try:
                os.link(file, self._folder / name)
            except OSError:  # another disk, or one that knows no links
                pass
            else:
                return
        self.put(name, file)

    def delete(self, name: str) -> None:
        """Remove an object that nothing refers to."""
        import obstore

        obstore.delete(self._store, name)

    def table_metadata(self, path: str, version: int) -> Mapping[str, str]:
        # Delta's own history starts at its head, whichever version was opened.
        entries = self.get(f"{path}/_delta_log/{version:020d}.json") or b""
        actions = [json.loads(line) for line in entries.splitlines() if line.strip()]
        stamps: list[dict[str, str]] = [a["commitInfo"] for a in actions if "commitInfo" in a]
        return stamps[0] if stamps else {}

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Say that the disk is full where that is what it is."""
        try:
            yield
        except Exception as error:
            if not is_full(error):
                raise
            raise DiskFull(
                f"{name} cannot be written: {bounded(str(error).strip(), 160)}",
                where=self.url,
                fix="make room, then materialize again; the last version is as it was",
            ) from None

    def scan_table(self, path: str, version: int) -> pl.LazyFrame:
        import polars as pl
        from deltalake import DeltaTable

        return pl.scan_delta(DeltaTable(f"{self._tables}/{path}", version=version))


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
        return self._backend.scan_table(self._path, self.version)

    def commit(
        self, rows: Batches, metadata: Mapping[str, str], *, replace: bool
    ) -> tuple[int, int]:
        following = self.transactions + 1
        try:
            mode = "overwrite" if replace else "append"
            return self.write(_Stream(rows), metadata, mode, following)
        except Exception:
            # The commit may have arrived though its answer did not.
            head = self._backend.open_table(self._path)
            if head is None or head.transactions != following:
                raise
            if not metadata.items() <= head.metadata.items():
                raise
            return head.version, head.rows

    def suits(self, file: ParquetFile) -> bool:
        """Whether a Parquet file can become the table's as it is."""
        from deltalake import Schema

        return file.is_plain and self._table.schema() == Schema.from_arrow(file.schema)

    def take(self, file: ParquetFile, metadata: Mapping[str, str]) -> tuple[int, int]:
        """Replace the table's content by a Parquet file; `Moved` as `write`."""
        from deltalake import CommitProperties
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import AddAction

        name, rows = f"part-00000-{uuid.uuid4()}-c000.snappy.parquet", file.rows
        size, now = file.path.stat().st_size, int(time.time() * 1000)
        stats = json.dumps({"numRecords": rows})
        with self._backend._writing(self._path):
            self._backend.link(f"{self._path}/{name}", file.path)
            try:
                self._table.create_write_transaction(
                    [AddAction(name, size, {}, now, data_change=True, stats=stats)],
                    "overwrite",
                    file.schema,
                    commit_properties=CommitProperties(
                        custom_metadata=dict(metadata), max_commit_retries=0
                    ),
                )
            except CommitFailedError as error:
                self._backend.delete(f"{self._path}/{name}")
                raise Moved(str(error)) from None
        return self.version + 1, rows

    def write(
        self, stream: _Stream, metadata: Mapping[str, str], mode: str, transaction: int = 0
    ) -> tuple[int, int]:
        """One commit on this very version; `Moved` if it is not the head any more."""
        from deltalake import CommitProperties, Transaction, write_deltalake
        from deltalake.exceptions import CommitFailedError

        properties = CommitProperties(
            custom_metadata=dict(metadata),
            # Delta would rebase a lost commit by itself: rows read from one cursor would follow
            # those that another writer has read from it.
            max_commit_retries=0,
            app_transactions=[Transaction(self._path, transaction)] if transaction else None,
        )
        try:
            with self._backend._writing(self._path):
                write_deltalake(  # type: ignore[call-overload]
                    self._table,
                    stream.reader(),
                    mode=mode,
                    schema_mode="merge" if mode == "append" else "overwrite",
                    commit_properties=properties,
                    writer_properties=_parquet(stream.schema),
                )
        except CommitFailedError as error:
            raise Moved(str(error)) from None
        except Exception:
            if stream.failure is not None:
                raise stream.failure from None
            raise
        return self._table.version(), self._table.count()


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

    def __init__(self, rows: Batches) -> None:
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
