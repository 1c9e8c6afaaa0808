"""The cursor of an incremental source: what order its rows have, and how far it was read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from etl_ml.extract.reader import Position, Since
from etl_ml.extract.source_error import SourceError
from etl_ml.spec.contract import NUMBERS
from etl_ml.spec.error import bounded
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_LAG_SECONDS = 60.0
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_MOMENTS = ("%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d")


@dataclass(frozen=True)
class Cursor:
    """A column whose values grow.

    Attributes
    ----------
    kind : `id` is a MongoDB ObjectId as text, whose first 8 digits are seconds since 1970
    lag_seconds : how far behind the position to read again, for moments and ids
    lag_rows : the same for numbers and texts
    """

    name: str
    kind: Literal["moment", "id", "number", "text"]
    lag_seconds: float = 0.0
    lag_rows: int = 0

    @staticmethod
    def of(pipeline: Pipeline) -> Cursor:
        """The cursor that `source.incremental` asks for."""
        asked = pipeline.source.incremental
        if asked is None or asked.cursor is None:
            raise ValueError("the source has no cursor")
        name = asked.cursor
        if pipeline.cursor_carries_time():
            seconds = _LAG_SECONDS if asked.lag_seconds is None else asked.lag_seconds
            column = pipeline.contract.columns.get(name)
            moment = column is not None and column.type in ("datetime", "date")
            return Cursor(name, "moment" if moment else "id", lag_seconds=seconds)
        number = pipeline.contract.columns[name].type in NUMBERS
        return Cursor(name, "number" if number else "text", lag_rows=asked.lag_rows or 0)

    def values(self, kind: pl.DataType) -> pl.Expr:
        """The column's values in the cursor's order; null where a cell has no place in it."""
        import polars as pl

        column = pl.col(self.name)
        if self.kind in ("id", "text"):
            return column.cast(pl.String, strict=False)
        if self.kind == "number":
            if kind == pl.String:
                return column.str.strip_chars().cast(pl.Float64, strict=False)
            return column.cast(pl.Float64, strict=False) if not kind.is_numeric() else column
        if kind == pl.String:
            plain = column.str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d)[Tt]", "${1} ")
            plain = plain.str.replace("[Zz]$", "+00:00")
            zoned = plain.str.to_datetime(
                _MOMENTS[0], time_unit="us", time_zone="UTC", strict=False
            )
            local = [
                plain.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone(
                    "UTC"
                )
                for form in _MOMENTS[1:]
            ]
            return pl.coalesce(zoned, *local)
        moment = column.cast(pl.Datetime("us")) if kind == pl.Date else column
        if isinstance(kind, pl.Datetime) and kind.time_zone:
            return moment.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        return moment.dt.replace_time_zone("UTC").dt.cast_time_unit("us")

    def largest(self, batch: pa.RecordBatch) -> Position | None:
        """The furthest position in a batch, None where no cell has one.

        Raises
        ------
        SourceError
            The `_id` of a document is not an ObjectId.
        """
        import polars as pl

        column = pl.Series(self.name, batch.column(self.name)).to_frame()
        value = column.select(self.values(column.schema[self.name]).max()).item()
        if self.kind == "id" and value is not None and not _OBJECT_ID.fullmatch(value):
            raise SourceError(
                f"{self.name} {bounded(value, 40)} is not an ObjectId, and carries no time.",
                where="source.incremental.cursor",
                fix="name a field that grows, e.g. updated_at, or contract _id as an integer",
            )
        found: Position | None = value
        return found

    def since(self, position: Position, table: pl.LazyFrame) -> Since:
        """Where to read from: the lag behind a position.

        Parameters
        ----------
        table : what was read before, for a lag in rows
        """
        if not self.lag_rows:
            return Since(self.name, self.behind(position))
        values = self.values(table.collect_schema()[self.name])
        return Since(self.name, self.behind(position, table.select(values)))

    def behind(self, position: Position, values: pl.LazyFrame | None = None) -> Position:
        """The place that lies the lag behind a position.

        Parameters
        ----------
        values : one column in the cursor's order, for a lag in rows
        """
        if isinstance(position, datetime):
            return position - timedelta(seconds=self.lag_seconds)
        if self.kind == "id":
            seconds = int(str(position)[:8], 16) - int(-(-self.lag_seconds // 1))
            return f"{max(seconds, 0):08x}{'0' * 16}"
        if self.lag_rows and values is not None:
            column = values.collect_schema().names()[0]
            nearest = values.drop_nulls().top_k(self.lag_rows, by=column).min()
            found: Position | None = nearest.collect(engine="streaming").item()
            return position if found is None else found
        return position

    def window(self, table: pl.LazyFrame, since: Since) -> pl.LazyFrame:
        """The rows of a table that are at or behind a place."""
        import polars as pl

        values = self.values(table.collect_schema()[self.name])
        return table.filter(values >= pl.lit(since.position))

    def capped(self, position: Position, clock: datetime | None) -> Position:
        """A position that is not past the source's own clock: another's may be fast."""
        if clock is None:
            return position
        if isinstance(position, datetime):
            return min(position, clock)
        if self.kind == "id":
            return min(str(position), f"{int(clock.timestamp()):08x}{'0' * 16}")
        return position

    def dump(self, position: Position) -> Any:
        """A position as JSON can hold it."""
        return position.isoformat() if isinstance(position, datetime) else position

    def load(self, value: Any) -> Position:
        """What `dump` made."""
        position: Position = value
        if self.kind == "moment":
            position = datetime.fromisoformat(value).astimezone(UTC)
        return position
