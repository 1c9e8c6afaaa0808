"""A lake in an object store or a folder: files by obstore, tables by Delta Lake."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.lake.backend import AlreadyExists, Batches
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from deltalake import DeltaTable
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
    """

    def __init__(self, url: str, store: ObjectStore, tables: str) -> None:
        self.url = url
        self._store = store
        self._tables = tables

    @classmethod
    def local(cls, root: Path) -> ObjectStoreBackend:
        """A lake in a folder, which is made if it is missing."""
        from obstore.store import LocalStore

        root = root.expanduser().resolve()
        return cls(str(root), LocalStore(root, mkdir=True), str(root))

    def create(self, name: str, data: bytes | Path) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(self._store, name, data, mode="create")
        except AlreadyExistsError:
            raise AlreadyExists(name) from None

    def put(self, name: str, data: bytes | Path) -> None:
        import obstore

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
        self, path: str, rows: pl.LazyFrame | Batches, metadata: Mapping[str, str]
    ) -> tuple[int, int]:
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        for attempt in range(_ATTEMPTS):
            stream = _Stream(rows)
            table = self._open(path, stream.schema)
            try:
                write_deltalake(
                    table,
                    stream.reader(),
                    mode="overwrite",
                    schema_mode="overwrite",
                    # Delta would rebase a lost commit by itself, and where the table was empty
                    # keep the winner's rows beside ours.
                    commit_properties=CommitProperties(
                        custom_metadata=dict(metadata), max_commit_retries=0
                    ),
                )
            except CommitFailedError:
                # Nothing was committed: another writer's version came first, so this one is next.
                time.sleep(random.uniform(0, 0.1 * 2 ** min(attempt, 6)))
                continue
            except Exception:
                if stream.failure is not None:
                    raise stream.failure from None
                raise
            return table.version(), table.count()
        raise Contended(
            f"{path}: {_ATTEMPTS} commits in a row lost to other writers.",
            where=self.url,
            fix="run fewer materializations of this asset at once, then run this one again",
        )

    def _open(self, path: str, schema: pa.Schema) -> DeltaTable:
        """The table at its head; made empty where there is none yet."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        location = f"{self._tables}/{path}"
        try:
            return DeltaTable(location)
        except TableNotFoundError:
            try:
                return DeltaTable.create(location, schema, configuration=_TABLE)
            except DeltaError:  # another writer made it first
                return DeltaTable(location)

    def scan_table(self, path: str, version: int) -> pl.LazyFrame:
        import polars as pl
        from deltalake import DeltaTable

        return pl.scan_delta(DeltaTable(f"{self._tables}/{path}", version=version))


class _Stream:
    """Rows on their way to Delta, whose writer says that a stream broke but not why."""

    def __init__(self, rows: pl.LazyFrame | Batches) -> None:
        import polars as pl

        self._rows = rows
        self.failure: Exception | None = None
        if isinstance(rows, pl.LazyFrame):
            self.schema = rows.collect_schema().to_frame().to_arrow().schema
        else:
            self.schema = rows.schema

    def reader(self) -> pa.RecordBatchReader:
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        import polars as pl

        try:
            if isinstance(self._rows, pl.LazyFrame):
                for frame in self._rows.collect_batches(engine="streaming", maintain_order=False):
                    yield from frame.to_arrow().cast(self.schema).to_batches()
            else:
                yield from self._rows
        except Exception as error:
            self.failure = error
            raise
