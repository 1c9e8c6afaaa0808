"""Rows in Parquet."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from etl_ml.serve.refused import TOO_LARGE, Refused
from etl_ml.serve.rows import Rows, bounded_count, unreadable
from etl_ml.spec.error import bounded

MAGIC = b"PAR1"
_COLUMNS = 10_000


def read_parquet(body: bytes, inputs: Collection[str], most: int, most_bytes: int) -> Rows:
    """The rows in a body.

    Parameters
    ----------
    most_bytes : that the file says it takes unpacked; the rest of it is not read beyond that

    Raises
    ------
    Refused
        It is no Parquet, has too many rows, or is too large unpacked.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One name of many may be a mistake: the names are looked at before anything is unpacked.
        file = pq.ParquetFile(pa.BufferReader(body))
        names = file.schema_arrow.names
        count = bounded_count(file.metadata.num_rows, most)
        _check_size(file.metadata, most_bytes)
        if len(set(names)) < len(names) or len(names) > _COLUMNS:
            raise unreadable("the file has a column twice, or thousands.", "each column once")
        wanted = [name for name in names if name in inputs]
        table = file.read(columns=wanted, use_threads=False)
        columns: dict[str, Any] = {name: [] for name in names}  # the others by name alone
        for name in wanted:
            series = pl.from_arrow(table.column(name).combine_chunks())
            if len(series) != count:
                raise unreadable("the file's columns are not of one length.", "Parquet")
            columns[name] = series
    except (pa.ArrowException, OSError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        why = bounded(str(error).partition("\n")[0], 100)
        raise unreadable(f"the body is no sound Parquet file: {why}.", "Parquet") from None
    return Rows(columns, count)


def _check_size(metadata: Any, most: int) -> None:
    """Some bytes may stand for thousands: what the file says of itself is asked first."""
    size = sum(
        metadata.row_group(place).total_byte_size for place in range(metadata.num_row_groups)
    )
    if size > most:
        raise Refused(
            f"the file takes {size:,} bytes unpacked.",
            status=TOO_LARGE,
            reason="too_large",
            expected=f"up to {most:,} bytes",
        )
