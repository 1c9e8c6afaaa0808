"""What is new in a source since the cursor that was committed with the rows before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.extract.extract import FilesReader, identify, open_reader
from etl_ml.extract.file_state import new_files, state_of
from etl_ml.extract.pending import held
from etl_ml.extract.position import Cursor
from etl_ml.extract.reader import Position, Reader, Since
from etl_ml.extract.source_error import SourceError, refuse_empty
from etl_ml.extract.spool import Spool
from etl_ml.extract.stream import StreamReader, read_stream
from etl_ml.extract.tail import Tail
from etl_ml.lake.backend import TableHandle
from etl_ml.lake.growing import Increment, cursor_of
from etl_ml.lake.identity import ROW, Identity, hash_rows
from etl_ml.lake.progress import Progress
from etl_ml.spec.error import listed
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import (
    STREAMS,
    WITHOUT_SCHEMA,
    FileSource,
    KafkaSource,
    KinesisSource,
)

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

    from etl_ml.lake.stores import StoreSettings

_FILES = 100_000


def extract_new(
    pipeline: Pipeline,
    head: TableHandle | None,
    *,
    base: Path,
    settings: StoreSettings | None = None,
    refresh: bool = False,
    log: Callable[[str], None] | None = None,
) -> Increment | None:
    """Read what follows on a table, and the cursor behind it.

    Parameters
    ----------
    head : the table as it is, None where there is none
    base : the folder that relative paths start from
    refresh : read everything again, in place of all that is there
    log : told of progress, some seconds apart

    Returns
    -------
    Increment or None
        None when nothing is new. Rows that are in the table already, because the lag was read
        again, are not among its rows.

    Raises
    ------
    SourceError
        The source cannot be read, has no rows at all, or is another one than before.
    """
    source = pipeline.source
    before = cursor_of(head.metadata) if head is not None else None
    state = state_before(pipeline, head, refresh)
    known = head if state is not None else None
    noted = held(pipeline, base=base, settings=settings)
    if isinstance(source, STREAMS):
        again = before if refresh and before and before["source"] == _mark(pipeline) else None
        places = {"state": state, "again": again, "whole": refresh, "log": log}
        reader = _open_stream(pipeline, source, base, settings, places)
        marks = source.start == "latest" and again is None
        increment = read_stream(
            pipeline, source.identity, reader, first=known is None, marks=marks, log=log
        )
    elif isinstance(source, FileSource):
        increment = _files(pipeline, source, state, known, base, settings, log)
    else:
        increment = _rows(pipeline, state, known, base, settings, log)
    if increment is None:
        return None
    cursor = {**increment.cursor, **source_mark(pipeline)}
    told = {**noted, **(increment.source or {})}
    return replace(increment, cursor=cursor, replace=state is None, source=told)


def _open_stream(
    pipeline: Pipeline,
    source: KafkaSource | KinesisSource,
    base: Path,
    settings: StoreSettings | None,
    places: dict[str, Any],
) -> StreamReader:
    if isinstance(source, KafkaSource):
        from etl_ml.extract.kafka import open_kafka

        return open_kafka(source, pipeline.contract, base=base, **places)
    from etl_ml.extract.kinesis import open_kinesis

    return open_kinesis(source, pipeline.contract, settings, **places)


def state_before(
    pipeline: Pipeline, head: TableHandle | None, refresh: bool
) -> dict[str, Any] | None:
    """The cursor that a table was committed with; None where it is begun anew.

    Raises
    ------
    SourceError
        The table's rows are from another source.
    """
    state = None if head is None or refresh else cursor_of(head.metadata)
    if state is not None and state["source"] != _mark(pipeline):
        now = pipeline.source.address
        raise SourceError(
            f"{pipeline.name}: the source or its columns are not those that raw_data was read by.",
            seen=f"it was {state.get('address', 'another one')}, now it is {now}",
            where="source",
            fix="put the source back as it was, or read everything again, in one commit: "
            f"etl-ml refresh {pipeline.name}",
        )
    return state


def source_mark(pipeline: Pipeline) -> dict[str, str]:
    """What a cursor says of the source that it is of."""
    return {"source": _mark(pipeline), "address": pipeline.source.address}


def _rows(
    pipeline: Pipeline,
    state: Mapping[str, Any] | None,
    head: TableHandle | None,
    base: Path,
    settings: StoreSettings | None,
    log: Callable[[str], None] | None,
) -> Increment | None:
    cursor = Cursor.of(pipeline)
    since: Since | None = None
    position: Position | None = None
    if state is not None and head is not None:
        position = cursor.load(state["position"])
        since = cursor.since(position, head.scan())
    key = pipeline.row_key()
    reader = open_reader(pipeline.source, pipeline.contract, key, base, since, settings)
    clock = reader.clock()
    tail = Tail(cursor, clock)
    spool = _spooled(pipeline, reader, head, tail, since, log)
    if tail.furthest is not None and spool.rows:
        furthest = cursor.capped(tail.furthest, clock)
        position = furthest if position is None else max(position, furthest)
    if position is None:
        raise SourceError(
            f"{listed(reader.origin, 3)}: no row has a value of {cursor.name!r}.",
            where="source.incremental.cursor",
            fix="name a column that grows with every row",
        )
    place = {"column": cursor.name, "position": cursor.dump(position), "new_rows": spool.rows}
    seen = tail.seen(position).dump(cursor)
    return Increment(spool if spool.rows else None, place, source=seen)


def _spooled(
    pipeline: Pipeline,
    reader: Reader,
    head: TableHandle | None,
    tail: Tail | None,
    since: Since | None,
    log: Callable[[str], None] | None,
) -> Spool:
    """The rows that are not in the table yet; all positions go to the tail.

    Raises
    ------
    SourceError
        There is no table yet, and no row to begin it with.
    """
    identity = Identity([n for n in pipeline.row_key() if n in reader.schema.names])
    cursor = tail.cursor if tail else None
    known = _known(head, cursor, since, reader.schema)
    spool: Spool | None = None
    before = head
    progress = Progress("Read", reader.total, log) if log else None
    for batch in reader:
        asked = _behind(batch, cursor, since)
        fresh = not_in(asked, known)
        if tail is not None and asked.num_rows:
            tail.add(asked, fresh.num_rows)
        if before is not None and fresh.num_rows:
            # Numbers among equals go on where the table's ended.
            for rows in before.scan().select(ROW).collect_batches(engine="streaming"):
                identity.seen(rows.to_series().to_arrow())
            before = None
        rows = identify(fresh, identity)
        spool = spool or Spool(rows.schema)
        spool.add(rows)
        if progress:
            progress.add(batch.num_rows, batch.nbytes)
    if progress:
        progress.done()
    if log and head is not None:
        log(f"New: {spool.rows if spool else 0:,} rows; the others are there already.")
    if head is None and not (spool and spool.rows):
        refuse_empty(reader.origin, "source" if cursor else "source.path")
    spool = spool or Spool(reader.schema)
    spool.close()
    return spool


def _known(
    head: TableHandle | None, cursor: Cursor | None, since: Since | None, schema: pa.Schema
) -> np.ndarray[Any, Any] | None:
    """Hashes of the table's rows that the lag reads again."""
    if head is None or cursor is None or since is None:
        return None
    return table_hashes(cursor.window(head.scan(), since), schema)


def table_hashes(window: pl.LazyFrame, schema: pa.Schema) -> np.ndarray[Any, Any] | None:
    """Hashes of a table's rows, over the columns of a source; None of no rows."""
    import numpy as np
    import polars as pl

    there = window.collect_schema().names()
    columns = [pl.col(n) if n in there else pl.lit(None).alias(n) for n in schema.names]
    hashes = [
        hash_rows(rows.to_arrow().cast(schema), schema.names)
        for rows in window.select(columns).collect_batches(engine="streaming")
    ]
    return np.concatenate(hashes) if hashes else None


def _behind(batch: pa.RecordBatch, cursor: Cursor | None, since: Since | None) -> pa.RecordBatch:
    """Without rows that lie before the place asked for: an API may give whole days."""
    import polars as pl

    if cursor is None or since is None or not batch.num_rows:
        return batch
    column = pl.Series(cursor.name, batch.column(cursor.name)).to_frame()
    values = column.select(cursor.values(column.schema[cursor.name]) >= pl.lit(since.position))
    return batch.filter(values.to_series().fill_null(False).to_arrow())


def not_in(batch: pa.RecordBatch, known: np.ndarray[Any, Any] | None) -> pa.RecordBatch:
    """The rows whose hashes are not among the known ones."""
    import numpy as np
    import pyarrow as pa

    if known is None or not len(known):
        return batch
    return batch.filter(pa.array(~np.isin(hash_rows(batch, batch.schema.names), known)))


def _files(
    pipeline: Pipeline,
    source: FileSource,
    state: Mapping[str, Any] | None,
    head: TableHandle | None,
    base: Path,
    settings: StoreSettings | None,
    log: Callable[[str], None] | None,
) -> Increment | None:
    from etl_ml.extract.file import list_files, open_files

    found = list_files(source, base, settings)
    if len(found) > _FILES:
        raise SourceError(
            f"{source.address}: {len(found)} files; {_FILES} can be remembered.",
            where="source.path",
            fix="move those that were read to another folder, or narrow the pattern",
        )
    new = new_files(pipeline, found, state)
    if not new:
        return None
    reader = FilesReader(*open_files(source, base, settings=settings, found=new))
    spool = _spooled(pipeline, reader, head, None, None, log)
    place = {**state_of(found), "new_rows": spool.rows}
    return Increment(spool, place, source={"bytes": sum(file.size for file in found)})


def _mark(pipeline: Pipeline) -> str:
    """What the source is: another address, table, query or set of columns is another source."""
    source = pipeline.source
    told: list[Any] = [source.type, source.address]
    if isinstance(source, KafkaSource):  # brokers come and go: the cluster tells whether it is it
        told = [source.type, sorted(source.topics), source.format]
    told += [str(getattr(source, key, None)) for key in ("query", "projection", "path", "params")]
    if isinstance(source, WITHOUT_SCHEMA):
        told += [[name, column.type] for name, column in pipeline.contract.columns.items()]
    incremental = source.incremental
    told.append(incremental.cursor if incremental else None)
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()
