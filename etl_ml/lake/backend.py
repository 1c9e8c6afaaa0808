"""The seam between the lake and where it lives.

A backend stores named bytes and tables. The one guarantee that the lake builds on is `create`:
of two writers of one name exactly one succeeds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from etl_ml.lake.content import Counted
    from etl_ml.lake.pieces import Data, Stored


class AlreadyExists(Exception):
    """`create` found the name taken."""


class TooLarge(Exception):
    """An object has more bytes than its reader would take; none was read."""


class Unreachable(EtlMlError):
    """The lake's store cannot be reached, or refuses; says which object and why."""


class Unanswered(Unreachable):
    """The store gave no answer, or none that says anything: it may be another time."""

    heals = True


@dataclass(frozen=True)
class Entry:
    """An object: its name in the lake, its size in bytes, and when it was written."""

    name: str
    bytes: int
    modified: datetime


class Batches(Protocol):
    """Rows as Arrow batches of one schema; iterating again reads them again."""

    @property
    def schema(self) -> pa.Schema: ...

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...


class Moved(Exception):
    """Another writer's commit came first; nothing of ours was written."""


class Written(NamedTuple):
    """A commit of a table: its version, how many rows the table has now, and its seal."""

    version: int
    rows: int
    seal: str | None


class Swept(NamedTuple):
    """What killed writers left of objects that never came to be: how many, and their bytes."""

    objects: int
    bytes: int


class Scan(NamedTuple):
    """A table's rows at a version, lazily; in no order.

    `seal` is what the store says of the objects that hold them (names, sizes, entity tags), as one
    text: as long as it is that of the commit, nobody has touched them. None where the store says
    nothing of the kind.
    """

    rows: pl.LazyFrame
    seal: str | None


class TableHandle(Protocol):
    """A table as it was when it was opened, and the one commit that may follow on it.

    Attributes
    ----------
    version : the Delta version
    rows : the number of rows
    transactions : how many commits `append` has made, 0 when the table has none of them
    metadata : what its commit was stamped with
    """

    version: int
    transactions: int

    @property
    def rows(self) -> int: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def scan(self) -> pl.LazyFrame:
        """The rows at this version, lazily; in no order."""

    def commit(self, rows: Counted, metadata: Mapping[str, str], *, replace: bool) -> Written:
        """Append rows, or replace all, in one commit.

        Raises
        ------
        Moved
            The table is not any more what it was when it was opened.
        """

    def checkpoint(self) -> None:
        """Spare those who open the table reading its whole log, where it has one."""


class Backend(Protocol):
    """Names are relative to the lake, with `/` between folders."""

    url: str

    def create(self, name: str, data: bytes) -> None:
        """Write a whole object, visible at once and only if the name is free.

        An object with the very same bytes counts as this one: an answer may have been lost.

        Raises
        ------
        AlreadyExists
        """

    def put(self, name: str, data: Data) -> None:
        """Write a whole object, in place of any that is there."""

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        """The object's bytes, or None where there is none.

        Raises
        ------
        TooLarge
            It has more than `most` bytes.
        """

    def stream(self, name: str, most: int) -> Stored | None:
        """The object's bytes as they arrive, or None where there is none.

        Raises
        ------
        TooLarge
            It has more than `most` bytes.
        """

    def delete(self, name: str) -> None:
        """Remove an object that nothing refers to; without effect where there is none."""

    def walk(self, prefix: str) -> Iterator[Entry]:
        """All objects under a prefix, those of tables included, in no order."""

    def sweep(self, prefix: str, before: datetime, *, dry_run: bool) -> Swept:
        """Remove what writers that were killed before a moment left of unfinished objects."""

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly under a prefix, sorted."""

    def objects(self, prefix: str) -> list[str]:
        """Names of the objects directly under a prefix, sorted."""

    def write_table(
        self, path: str, rows: Counted, metadata: Mapping[str, str], near: int | None = None
    ) -> Written:
        """Replace a table's content in one commit.

        Parameters
        ----------
        near : a version of the table that may be its last one, which spares looking for it
        """

    def open_table(self, path: str) -> TableHandle | None:
        """The table at its head, None where there is none yet."""

    def create_table(self, path: str, schema: pa.Schema) -> TableHandle:
        """Make an empty table; the one that is there if another writer was first."""

    def table_metadata(self, path: str, version: int) -> Mapping[str, str]:
        """What the commit that made a version of a table was stamped with."""

    def scan_table(self, path: str, version: int) -> Scan:
        """The table's rows at a version, and whether they are as they were committed."""

    def seal(self, path: str, version: int) -> str | None:
        """The seal of a table's version as it is now; see `Scan`."""

    def unneeded(self, path: str, versions: Collection[int], before: datetime) -> Iterable[Entry]:
        """What a table stores that none of these versions needs, written before a moment."""

    def discard(self, path: str, entries: Iterable[Entry]) -> None:
        """Remove what `unneeded` named."""
