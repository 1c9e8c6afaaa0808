"""What rows amount to, in any order, found out while they are written.

A cell hashes with its column's name, a row is the hash of the sum of its cells, and a table is the
sum of its rows: so rows that follow add to what was there. Types count by what they hold, not by
their width, which the backends do not all keep. Polars' hash is the same for one release of Polars
only, which is therefore named.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.lake.parquet_file import ParquetFile, room, sink

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from etl_ml.lake.backend import Batches

_RANGE = 1 << 64


def content_of(rows: pl.LazyFrame) -> str:
    """`polars-<release>:<24 hex digits>`: equal rows, equal text, whatever their order."""
    schema = rows.collect_schema()
    return _text(schema.names(), _sum(rows).collect(engine="streaming").item() or 0)


def together(content: str | None, following: str) -> str | None:
    """What a table amounts to when rows follow; None where that cannot be told from these two."""
    if content is None or content[:-16] != following[:-16]:
        return None
    return content[:-16] + f"{(int(content[-16:], 16) + int(following[-16:], 16)) % _RANGE:016x}"


def comparable(one: str | None, other: str | None) -> bool:
    """Whether both were hashed by the same release of Polars."""
    return (
        one is not None and other is not None and one.partition(":")[0] == other.partition(":")[0]
    )


class Sum:
    """What rows of these columns amount to, frame by frame."""

    def __init__(self, names: list[str]) -> None:
        self._names, self._total = names, 0

    def add(self, rows: pl.DataFrame) -> None:
        self._total += _sum(rows.lazy()).collect().item() or 0

    @property
    def content(self) -> str:
        return _text(self._names, self._total % _RANGE)


class Counted:
    """Rows on their way to a table; once all have passed, `content` tells what they amount to.

    Parameters
    ----------
    content : what they amount to, where that is known before
    """

    def __init__(self, rows: Batches, content: str | None = None) -> None:
        self._rows, self._content = rows, content
        self.schema: pa.Schema = rows.schema

    @property
    def file(self) -> ParquetFile | None:
        """The file that holds the rows, if one does."""
        return self._rows if isinstance(self._rows, ParquetFile) else None

    @property
    def content(self) -> str:
        if self._content is None:
            raise ValueError("the rows have not passed yet")
        return self._content

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._content is not None:
            yield from self._rows
            return
        import polars as pl

        found = Sum(self.schema.names)
        for batch in self._rows:
            found.add(pl.DataFrame(batch))
            yield batch
        self._content = found.content


@contextmanager
def counted(rows: ParquetFile | pl.LazyFrame | Batches) -> Iterator[Counted]:
    """Rows of any kind as a backend takes them; a query is run into a file first, in a stream."""
    import polars as pl

    if isinstance(rows, ParquetFile):
        yield Counted(rows, content_of(rows.scan()))
    elif isinstance(rows, pl.LazyFrame):
        with tempfile.TemporaryDirectory(prefix="etl_ml_") as folder:
            file = ParquetFile(Path(folder, "rows.parquet"))
            with room(Path(folder)):
                queries = [sink(rows, file.path), _sum(rows)]
                _, total = pl.collect_all(queries, engine="streaming")
            yield Counted(file, _text(rows.collect_schema().names(), total.item() or 0))
    else:
        yield Counted(rows)


def _sum(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One number: the sum of the rows' hashes; null where there are no rows."""
    import polars as pl

    cells = [_plain(name, kind).hash(_number(name)) for name, kind in rows.collect_schema().items()]
    if not cells:
        return rows.select(pl.len().cast(pl.UInt64))
    return rows.select(pl.sum_horizontal(cells).hash(0).sum().alias("sum"))


def _plain(name: str, kind: pl.DataType) -> pl.Expr:
    """A column in the widest type of its kind."""
    import polars as pl

    column = pl.col(name)
    if kind.is_integer() and kind not in (pl.UInt64, pl.Int128):
        return column.cast(pl.Int64)
    if kind.is_float():
        return column.cast(pl.Float64)
    if isinstance(kind, pl.Datetime):
        return column.dt.cast_time_unit("us")
    if isinstance(kind, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    return column


def _text(names: list[str], total: int) -> str:
    import polars as pl

    columns = hashlib.blake2b("\0".join(sorted(names)).encode(), digest_size=4).hexdigest()
    return f"polars-{pl.__version__}:{columns}{total:016x}"


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
