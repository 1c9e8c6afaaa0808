"""Rows that wait in a Parquet file of their own until a table takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.spec.error import EtlMlError, bounded

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
_ROW_GROUP = 131_072
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")


class DiskFull(EtlMlError):
    """There is no room; the last version of everything is as it was."""


def is_full(error: Exception) -> bool:
    """Whether a library's error is that of a full disk."""
    return any(text in str(error) for text in _FULL)


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Say that the disk of a temporary folder is full where that is what it is."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise DiskFull(
            f"the temporary folder is full: {bounded(str(error).strip(), 160)}",
            where=str(folder.parent),
            fix="make room there, or set TMPDIR to a larger disk; the last version is as it was",
        ) from None


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file on local disk; a table that takes it in moves it, where that can be done."""

    path: Path

    def scan(self) -> pl.LazyFrame:
        import polars as pl

        return pl.scan_parquet(self.path)

    @property
    def schema(self) -> pa.Schema:
        """Names and types as Arrow has them."""
        return self.scan().collect_schema().to_frame().to_arrow().schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for frame in self.scan().collect_batches(engine="streaming"):
            yield from frame.to_arrow().cast(self.schema).to_batches()

    @property
    def rows(self) -> int:
        import polars as pl

        return int(self.scan().select(pl.len()).collect().item())

    @property
    def is_plain(self) -> bool:
        """Whether Delta Lake has every column's type as Parquet has it, with nothing to convert."""
        return is_plain(self.scan().collect_schema())


def is_plain(schema: pl.Schema) -> bool:
    """Whether Delta Lake has the types as Parquet has them."""
    return all(map(_is_plain, schema.dtypes()))


def _is_plain(kind: pl.DataType) -> bool:
    import polars as pl

    if isinstance(kind, pl.List):
        return _is_plain(kind.inner)  # type: ignore[arg-type]
    numbers = (pl.Int64, pl.Int32, pl.Int16, pl.Int8, pl.Float64, pl.Float32)
    others = (pl.Boolean, pl.String, pl.Binary, pl.Date)
    return kind in numbers or kind in others or kind == pl.Datetime("us", "UTC")


def sink(rows: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    """A query that writes the rows to a Parquet file when it is collected, in a stream."""
    query = rows.sink_parquet(path, compression="snappy", row_group_size=_ROW_GROUP, lazy=True)
    assert query is not None  # None is for what is written at once
    return query
