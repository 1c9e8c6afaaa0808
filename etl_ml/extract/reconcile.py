"""Rows that came later than the lag, and were never read: found by reading everything once."""

from __future__ import annotations

from pathlib import Path

from etl_ml.extract.extract import open_reader
from etl_ml.extract.incremental import not_in, table_hashes
from etl_ml.extract.position import Cursor
from etl_ml.lake import Lake
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import FileSource


def missed(lake: Lake, pipeline: Pipeline, base: Path) -> int:
    """How many rows of an incremental source are behind its cursor and not in `raw_data`.

    A row that was changed without moving its cursor counts as well. Files are known by name and
    size, not by a cursor: of them none is missed.

    Parameters
    ----------
    base : the folder that relative paths start from

    Raises
    ------
    SourceError
        The source cannot be read.
    """
    import polars as pl

    source = pipeline.source
    if isinstance(source, FileSource) or lake.latest(pipeline.name, "raw_data") is None:
        return 0
    table = lake.table(pipeline.name, "raw_data")
    state = table.cursor
    if state is None or "position" not in state:
        return 0
    cursor = Cursor.of(pipeline)
    position = cursor.load(state["position"])
    reader = open_reader(source, pipeline.contract, pipeline.row_key(), base, None, None)
    known = table_hashes(table.scan(), reader.schema)
    count = 0
    for batch in reader:
        values = pl.Series(cursor.name, batch.column(cursor.name)).to_frame()
        behind = values.select(cursor.values(values.schema[cursor.name]) <= pl.lit(position))
        there = batch.filter(behind.to_series().fill_null(False).to_arrow())
        count += not_in(there, known).num_rows
    return count
