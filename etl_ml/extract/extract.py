"""The front door: from a source to rows as they were read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.extract.reader import Reader, Since
from etl_ml.extract.source_error import refuse_empty
from etl_ml.lake.backend import Batches
from etl_ml.lake.identity import ORIGINAL, ROW, Identity
from etl_ml.lake.progress import Progress
from etl_ml.spec.contract import Contract
from etl_ml.spec.source import (
    STREAMS,
    DynamoSource,
    FileSource,
    MongoSource,
    RestSource,
    Source,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_ml.lake.stores import StoreSettings


@dataclass(frozen=True)
class Extraction:
    """Rows on their way to the lake.

    `rows` has the source's columns, `_etl_ml_row` (text: the row's identity) and
    `_etl_ml_original` (text, null where the cells hold the row as it was).
    """

    rows: Batches
    columns: tuple[str, ...]
    origin: tuple[str, ...]


def extract(
    source: Source,
    *,
    base: Path,
    primary_key: Sequence[str] = (),
    contract: Contract | None = None,
    settings: StoreSettings | None = None,
    log: Callable[[str], None] | None = None,
) -> Extraction:
    """Open a source; rows are read when the result is iterated, in batches of bounded size.

    Parameters
    ----------
    base : the folder that relative paths start from
    primary_key : the columns that identify a row; all cells when empty
    contract : the columns, for sources that have none of their own (MongoDB, REST, DynamoDB)
    settings : of an object store or of DynamoDB; by default the provider's own chain
    log : told of progress, some seconds apart

    Raises
    ------
    SourceError
        The source cannot be read: named before any work is done. A row that cannot be read is
        named when it is reached, and so is a source without any row.
    """
    reader = open_reader(source, contract, primary_key, base, None, settings)
    names = tuple(name for name in reader.schema.names if name != ORIGINAL)
    key = [name for name in primary_key if name in names]
    complete = len(key) == len(primary_key)
    where = "source.path" if isinstance(source, FileSource) else "source"
    # A server that refuses a second document of one `_id` has counted for us.
    unique = tuple(primary_key) == ("_id",) and getattr(reader, "unique_ids", False)
    identity = partial(Identity, key if complete else (), unique=unique)
    rows = _Identified(reader, identity, where, log)
    return Extraction(rows, names, reader.origin)


def open_reader(
    source: Source,
    contract: Contract | None,
    key: Sequence[str],
    base: Path,
    since: Since | None,
    settings: StoreSettings | None,
) -> Reader:
    """Open the source by its own module.

    Parameters
    ----------
    since : where to read from; None for everything
    """
    if isinstance(source, FileSource):
        from etl_ml.extract.file import open_files

        return FilesReader(*open_files(source, base, settings=settings))
    if contract is None:
        raise ValueError(f"a {source.type} source needs the contract")
    if isinstance(source, MongoSource):
        from etl_ml.extract.mongodb import open_mongodb

        return open_mongodb(source, contract, since)
    if isinstance(source, RestSource):
        from etl_ml.extract.rest import open_rest

        return open_rest(source, contract, since)
    if isinstance(source, DynamoSource):
        from etl_ml.extract.dynamodb import open_dynamodb

        return open_dynamodb(source, contract, settings)
    if isinstance(source, STREAMS):
        raise ValueError(f"a {source.type} stream is read by extract_new")
    from etl_ml.extract.sql import open_sql

    return open_sql(source, contract, key, since)


class FilesReader:
    """Files as a `Reader`."""

    def __init__(self, origin: tuple[str, ...], batches: Batches) -> None:
        self.origin, self._batches = origin, batches
        self.schema: pa.Schema = batches.schema
        self.total: int | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self._batches)

    def clock(self) -> datetime | None:
        return None


def identify(batch: pa.RecordBatch, identity: Identity) -> pa.RecordBatch:
    """A batch with its rows' identities, and the place for what its cells cannot hold."""
    import pyarrow as pa

    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    original = columns.pop(ORIGINAL, None)
    bare = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    if original is None:
        original = pa.nulls(batch.num_rows, pa.string())
    return pa.RecordBatch.from_arrays(
        [*columns.values(), identity.of(bare), original], schema=identified(batch.schema)
    )


def identified(schema: pa.Schema) -> pa.Schema:
    """A source's schema with the two columns that every raw row has."""
    import pyarrow as pa

    internal = [pa.field(ROW, pa.string()), pa.field(ORIGINAL, pa.string())]
    return pa.schema([*(field for field in schema if field.name != ORIGINAL), *internal])


class _Identified:
    """A source's rows with their identities."""

    def __init__(
        self,
        reader: Reader,
        identity: Callable[[], Identity],
        where: str,
        log: Callable[[str], None] | None,
    ) -> None:
        self._reader, self._identity, self._where, self._log = reader, identity, where, log
        self.schema = identified(reader.schema)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        identity = self._identity()
        progress = Progress("Read", self._reader.total, self._log) if self._log else None
        rows = 0
        for batch in self._reader:
            rows += batch.num_rows
            yield identify(batch, identity)
            if progress:
                progress.add(batch.num_rows, batch.nbytes)
        if progress:
            progress.done()
        if not rows:
            # Nothing is written: the version before stays the latest.
            refuse_empty(self._reader.origin, self._where)
