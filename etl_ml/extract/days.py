"""Whole days of a source, which take the place of what the table has of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.extract.extract import identified, identify, open_reader
from etl_ml.extract.incremental import source_mark, state_before
from etl_ml.extract.position import Cursor
from etl_ml.extract.reader import Since
from etl_ml.extract.source_error import refuse_empty
from etl_ml.extract.spool import Spool
from etl_ml.lake.backend import TableHandle
from etl_ml.lake.growing import Increment
from etl_ml.lake.identity import ROW, Identity
from etl_ml.lake.progress import Progress
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_DAY = timedelta(days=1)


def extract_days(
    pipeline: Pipeline,
    days: Sequence[date],
    head: TableHandle | None,
    *,
    base: Path,
    refresh: bool = False,
    log: Callable[[str], None] | None = None,
) -> Increment:
    """Read days, and what the table is with them: its rows of other days, and these.

    Parameters
    ----------
    days : in UTC, in any order
    head : the table as it is, None where there is none
    refresh : leave out all that is there

    Raises
    ------
    SourceError
        The source cannot be read, has no row for a table's beginning, or is another one than
        before.
    """
    assert pipeline.partitions is not None
    cursor = Cursor(pipeline.partitions.column, "moment")
    known = head if state_before(pipeline, head, refresh) is not None else None
    identity = Identity(pipeline.row_key())
    others = None if known is None else _others(known.scan(), cursor, days)
    if others is not None:
        # Numbers among equals go on where those of the other days ended.
        for rows in others.select(ROW).collect_batches(engine="streaming"):
            identity.seen(rows.to_series().to_arrow())
    spool = _spooled(pipeline, cursor, days, identity, base, log)
    if known is None and not spool.rows:
        refuse_empty((pipeline.source.address,), "partitions")
    first, last = min(days).isoformat(), max(days).isoformat()
    told = first if first == last else f"{first} to {last}"
    place = {"column": cursor.name, "position": told, "new_rows": spool.rows}
    table = Rows(spool, others)
    return Increment(table, place | source_mark(pipeline), replace=True)


class Rows:
    """Rows that were read, and those of a table that stay."""

    def __init__(self, read: Spool, others: pl.LazyFrame | None) -> None:
        self.schema: pa.Schema = read.schema
        self._read, self._others = read, others

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield from self._read
        if self._others is None:
            return
        import polars as pl

        there = self._others.collect_schema().names()
        names = self.schema.names
        columns = [pl.col(n) if n in there else pl.lit(None).alias(n) for n in names]
        for rows in self._others.select(columns).collect_batches(engine="streaming"):
            yield from rows.to_arrow().cast(self.schema).to_batches()


def _spooled(
    pipeline: Pipeline,
    cursor: Cursor,
    days: Sequence[date],
    identity: Identity,
    base: Path,
    log: Callable[[str], None] | None,
) -> Spool:
    spool: Spool | None = None
    progress = Progress("Read", None, log) if log else None
    for first, last in spans(days):
        since = Since(cursor.name, first, last + _DAY)
        key = pipeline.row_key()
        reader = open_reader(pipeline.source, pipeline.contract, key, base, since, None)
        spool = spool or Spool(identified(reader.schema))
        for batch in reader:
            spool.add(identify(batch, identity))
            if progress:
                progress.add(batch.num_rows, batch.nbytes)
    if progress:
        progress.done()
    assert spool is not None
    spool.close()
    return spool


def _others(table: pl.LazyFrame, cursor: Cursor, days: Sequence[date]) -> pl.LazyFrame:
    """A table's rows of other days, and of none."""
    import polars as pl

    moment = cursor.values(table.collect_schema()[cursor.name])
    asked = pl.any_horizontal(
        moment.is_between(_begin(first), _begin(last + _DAY), closed="left")
        for first, last in spans(days)
    )
    return table.filter(~asked.fill_null(False))


def _begin(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def spans(days: Sequence[date]) -> list[tuple[date, date]]:
    """Days as (first, last) of those that follow on each other."""
    ordered = sorted(set(days))
    ends = [day for day, following in pairwise(ordered) if following - day > _DAY]
    starts = [following for day, following in pairwise(ordered) if following - day > _DAY]
    return list(zip([ordered[0], *starts], [*ends, ordered[-1]], strict=True))
