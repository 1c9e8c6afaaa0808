"""The seam between sources and what reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

Position = datetime | int | float | str
"""A place in the order of a cursor: a moment (UTC), a number, a text, an ObjectId as its hex."""


@dataclass(frozen=True)
class Since:
    """Read rows whose `cursor` is at or behind `position`; `position` itself is read again.

    Attributes
    ----------
    until : where there is one, only rows before it
    """

    cursor: str
    position: Position | date
    until: date | None = None


class Reader(Protocol):
    """An opened source.

    Attributes
    ----------
    origin : what is read, for people; never a secret
    schema : the columns; may end with `_etl_ml_original` (text), null where the cells hold the row
    total : the number of rows, where the source can tell it cheaply
    """

    schema: pa.Schema

    @property
    def origin(self) -> tuple[str, ...]: ...

    @property
    def total(self) -> int | None: ...

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The rows in batches of bounded size; iterating again reads again.

        What heals is retried here, from the last batch, so that no row is lost or doubled.
        """

    def clock(self) -> datetime | None:
        """The source server's own time (UTC), None where it has none to tell."""
