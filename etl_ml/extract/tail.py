"""The end of a read: how far it came, and how many rows lie where the next one will look again.

A count of the source less these numbers is what has come since. It may be less than what a read
would find, where as many rows have left the lag as have come late; it is never nothing as long as
the rows that left are new ones behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl_ml.extract.position import Cursor
from etl_ml.extract.reader import Position

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True)
class Seen:
    """What a read of a source with a cursor has seen of its end.

    Attributes
    ----------
    since, position : where the next read looks again from, and where this one came to
    window, past : rows from `since` up to `position`, and rows behind it
    """

    since: Position
    position: Position
    window: int
    past: int

    def dump(self, cursor: Cursor) -> dict[str, Any]:
        """As JSON can hold it."""
        places = {"since": cursor.dump(self.since), "position": cursor.dump(self.position)}
        return {"column": cursor.name, **places, "window": self.window, "past": self.past}

    @staticmethod
    def load(told: Mapping[str, Any], cursor: Cursor) -> Seen | None:
        """What `dump` made; None where it is of another cursor, or there is none."""
        if told.get("column") != cursor.name:
            return None
        since, position = (cursor.load(told[name]) for name in ("since", "position"))
        return Seen(since, position, told["window"], told["past"])


class Tail:
    """The positions of a read that its end may need; in memory is what lies within the lag.

    Parameters
    ----------
    clock : the source's own at the beginning, which no committed position passes
    """

    def __init__(self, cursor: Cursor, clock: datetime | None) -> None:
        self.cursor, self._clock = cursor, clock
        self.furthest: Position | None = None
        self._values: pl.Series | None = None
        self._new = False

    def add(self, batch: pa.RecordBatch, new: int) -> None:
        """Take note of a batch's positions.

        Parameters
        ----------
        new : how many of its rows are; without any the position stays where it was

        Raises
        ------
        SourceError
            The `_id` of a document is not an ObjectId.
        """
        import polars as pl

        self._new = self._new or new > 0
        here = self.cursor.largest(batch)
        if here is None:
            return
        if self.furthest is None or here > self.furthest:  # type: ignore[operator]
            self.furthest = here
        column = pl.Series(self.cursor.name, batch.column(self.cursor.name)).to_frame()
        asked = self.cursor.values(column.schema[self.cursor.name])
        values = column.select(asked.alias("value")).to_series().drop_nulls()
        if self._values is not None:
            values = pl.concat([self._values, values])
        if self._new:
            reached = self.cursor.capped(self.furthest, self._clock)
            values = values.filter(values >= self._since(reached, values))
        self._values = values

    def seen(self, position: Position) -> Seen:
        """Around the position that is committed, which is at or behind that of the last commit."""
        import polars as pl

        values = self._values if self._values is not None else pl.Series("value", [position])[:0]
        since = self._since(position, values)
        return self.counted(since, position)

    def counted(self, since: Position, position: Position) -> Seen:
        """How many of the rows lie around a position."""
        if self._values is None:
            return Seen(since, position, 0, 0)
        past = int((self._values > position).sum())
        return Seen(since, position, int((self._values >= since).sum()) - past, past)

    def _since(self, position: Position, values: pl.Series) -> Position:
        return self.cursor.behind(position, values.to_frame().lazy())
