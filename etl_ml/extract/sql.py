"""SQL databases: a table or a query as typed Arrow batches.

With a key the rows are read in ranges of it, each by a query of its own that can be asked again:
`last < key <= next`, where the database itself says what `next` is. So neither equal keys nor a
collation nor rows that come and go in between make a row be lost or read twice. MySQL and
PostgreSQL are read by connectorx, everything else by SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from etl_ml.extract.reader import Reader, Since
from etl_ml.extract.source_error import SourceError
from etl_ml.lake.backoff import Backoff
from etl_ml.spec.contract import Contract
from etl_ml.spec.error import bounded, listed, nearest
from etl_ml.spec.source import SqlSource

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_ml.extract.sql_database import Database

T = TypeVar("T")
Place = tuple[object, ...]

_AT_OPEN = 10.0  # seconds: a server that restarts, not one that is not there


def open_sql(
    source: SqlSource, contract: Contract, key: Sequence[str], since: Since | None
) -> Reader:
    """Connect, and find out what columns there are.

    Parameters
    ----------
    key : columns to cut the read by; a table's own primary key serves better where it has one
    since : rows at or behind this place, in the order of (cursor, key)

    Raises
    ------
    SourceError
        Host, user, password, database, table, column or query are not right.
    """
    return _SqlReader(source, open_database(source), key or contract.primary_key, since)


def open_database(source: SqlSource, seconds: float | None = None) -> Database:
    """The database of a source; nothing is asked yet.

    Parameters
    ----------
    seconds : how long an answer may take

    Raises
    ------
    SourceError
        A package is missing, or the URL is none.
    """
    try:
        import sqlalchemy  # noqa: F401
    except ModuleNotFoundError:
        raise SourceError(
            "A source of type sql needs packages that are not installed.",
            where="source.type",
            fix="pip install 'etl_ml[sql]'",
        ) from None
    from etl_ml.extract.sql_database import Database

    return Database(source, seconds)


class _SqlReader:
    total = None

    def __init__(
        self, source: SqlSource, database: Database, key: Sequence[str], since: Since | None
    ) -> None:
        self._database, self._since, self._rows = database, since, source.batch_rows
        self._is_query = source.query is not None
        self.origin = (source.address,)
        backoff = Backoff(_AT_OPEN)
        columns = self._again(database.columns, backoff)
        self._columns = {column.name: column for column in columns}
        self._table = database.table(columns)
        self.schema = self._table.schema
        own = self._again(database.primary_key, backoff)
        self.own_key = tuple(own)
        wanted = [source.partition_column] if source.partition_column else own or list(key)
        self._key = [self._known(name) for name in wanted]
        self._never_null = bool(own) and not source.partition_column
        if since is not None:
            cursor = self._known(since.cursor)
            self._key = [cursor, *(name for name in self._key if name != cursor)]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if not self._key:
            yield from self._streamed("")
            return
        if self._is_query and self._since is None:
            # A query that gives little is run once.
            found = self._first_rows()
            if found is not None:
                yield from found
                return
        yield from self._ranges()
        if nullable := self._nullable():
            nulls = " OR ".join(f"{self._database.cell(name)} IS NULL" for name in nullable)
            yield from self._streamed(f"WHERE {self._wanted()} AND ({nulls})")

    def clock(self) -> datetime | None:
        return self._again(self._database.clock, Backoff(_AT_OPEN))

    def _known(self, name: str) -> str:
        if name in self._columns:
            return name
        raise SourceError(
            f"{self.origin[0]}: there is no column {bounded(name)} to read by.",
            seen=f"it has {listed(self._columns)}",
            where="contract.primary_key, source.partition_column or source.incremental.cursor",
            close=nearest(name, self._columns),
            fix="name a column that the table or query gives",
        )

    def _first_rows(self) -> list[pa.RecordBatch] | None:
        """The whole answer if it is shorter than a batch."""
        if self._database.kind not in ("mysql", "postgresql", "sqlite"):
            return None
        tail = f"LIMIT {self._rows}"
        found = self._again(partial(self._database.read, self._table, tail), Backoff())
        return found if sum(batch.num_rows for batch in found) < self._rows else None

    def _ranges(self) -> Iterator[pa.RecordBatch]:
        database, backoff = self._database, Backoff()
        places = ", ".join(self._columns[name].place for name in self._key)
        cells = ", ".join(database.cell(name) for name in self._key)
        known = [f"{database.cell(name)} IS NOT NULL" for name in self._nullable()]
        start = " AND ".join([self._wanted(), *known])
        last: Place | None = None
        while True:
            behind = start if last is None else f"{start} AND {self._behind(last)}"
            ask = (
                f"SELECT {places} FROM {database.rows} WHERE {behind} ORDER BY {cells} "
                f"{database.window(self._rows - 1)}"
            )
            end = self._again(partial(database.first, ask), backoff)
            upto = f" AND NOT {self._behind(end)}" if end is not None else ""
            tail = f"WHERE {behind}{upto}"
            yield from self._again(partial(database.read, self._table, tail), backoff)
            if end is None:
                return
            last = end

    def _wanted(self) -> str:
        if self._since is None:
            return "1 = 1"
        database, since = self._database, self._since
        cell = database.cell(since.cursor)
        wanted = f"{cell} >= {database.literal(since.position)}"
        if since.until is None:
            return wanted
        return f"{wanted} AND {cell} < {database.literal(since.until)}"

    def _nullable(self) -> list[str]:
        """The columns of the key that may be null, where the read must look for such rows."""
        if self._never_null:
            return []
        return [name for name in self._key if self._since is None or name != self._since.cursor]

    def _behind(self, place: Place) -> str:
        """(a, b) > place, in a form that an index on (a, b) serves."""
        cells = [self._database.cell(name) for name in self._key]
        values = [self._database.literal(value) for value in place]
        condition = f"{cells[-1]} > {values[-1]}"
        for cell, value in zip(cells[-2::-1], values[-2::-1], strict=True):
            condition = f"({cell} >= {value} AND ({cell} > {value} OR {condition}))"
        return f"({condition})"

    def _streamed(self, tail: str) -> Iterator[pa.RecordBatch]:
        """One query, row after row; begun again only while nothing was handed on."""
        import sqlalchemy as sa

        backoff, handed = Backoff(), 0
        while True:
            try:
                for batch in self._database.stream(self._table, tail):
                    handed += batch.num_rows
                    yield batch
                return
            except sa.exc.SQLAlchemyError as error:
                self._heals(error, backoff, handed)

    def _again(self, ask: Callable[[], T], backoff: Backoff) -> T:
        """The answer, asked for again while what goes wrong may heal."""
        import sqlalchemy as sa

        while True:
            try:
                found = ask()
            except sa.exc.SQLAlchemyError as error:
                self._heals(error, backoff, 0)
            else:
                backoff.reset()
                return found

    def _heals(self, error: Exception, backoff: Backoff, handed: int) -> None:
        """Wait, if there is hope; else the error that names what to mend."""
        import sqlalchemy as sa

        from etl_ml.extract.sql_errors import kind_of

        assert isinstance(error, sa.exc.SQLAlchemyError)
        self._database.forget()
        if kind_of(error) != "lost":
            raise self._database.explain(error) from None
        if handed:
            raise SourceError(
                f"{self.origin[0]}: the connection was lost after {handed} rows, and without a key "
                "the read cannot go on where it was.",
                where="contract.primary_key",
                fix="set contract.primary_key, so that it can",
            ) from None
        try:
            backoff.wait(error)
        except sa.exc.SQLAlchemyError:
            raise self._database.explain(error) from None
