"""How many rows of a table or a query are new: two bounded counts over an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from etl_ml.extract.pending import SECONDS, Held, Pending
from etl_ml.extract.position import Cursor
from etl_ml.extract.sql import open_database
from etl_ml.extract.tail import Seen
from etl_ml.spec.source import SqlSource

if TYPE_CHECKING:
    from etl_ml.extract.sql_database import Database

_BOUNDED = ("mysql", "postgresql", "sqlite")
# MariaDB, MySQL, PostgreSQL: the statement took longer than it may.
_TOO_LONG = {1969, 3024, "57014"}


class _TooLong(Exception):
    """The database ended a statement that took too long."""


def count_rows(source: SqlSource, cursor: Cursor, seen: Seen | None, bound: int) -> Pending:
    """Rows that an incremental read has not seen.

    Raises
    ------
    SourceError
        The database does not answer, or refuses.
    """
    try:
        with _asked(source) as database:
            if seen is None:
                rows = _count(database, "1 = 1", bound)
                return Pending(rows, f"{rows:,} rows, nothing was read yet")
            cell = database.cell(cursor.name)
            since, position = (database.literal(place) for place in (seen.since, seen.position))
            new = _count(database, f"{cell} > {position}", seen.past + bound)
            window = f"{cell} >= {since} AND {cell} <= {position}"
            late = _count(database, window, seen.window + bound)
    except _TooLong:
        told = f"the rows cannot be counted within {SECONDS:g} s"
        return Pending(None, f"{told}; is there an index on {cursor.name}?")
    rows = max(new - seen.past, 0) + max(late - seen.window, 0)
    more = " or more" if rows >= bound else ""
    return Pending(rows, f"{rows:,}{more} new rows by {cursor.name}")


def held_rows(source: SqlSource) -> Held:
    """What a table or query that is read whole holds: its number of rows, and its largest key.

    Raises
    ------
    SourceError
        The database does not answer, or refuses.
    """
    try:
        with _asked(source) as database:
            key = database.primary_key()
            largest = f", MAX({database.cell(key[0])})" if len(key) == 1 else ""
            found = database.first(f"SELECT COUNT(*){largest} FROM {database.rows}")
    except _TooLong:
        return Held(None)
    assert found is not None
    blind = ", by number and largest key" if largest else ", by number"
    return Held(" ".join(map(str, found)), int(found[0]), blind=blind)


def _count(database: Database, where: str, limit: int) -> int:
    rows = f"SELECT 1 AS one FROM {database.rows} WHERE {where}"
    if database.kind in _BOUNDED:
        rows = f"{rows} LIMIT {limit}"
    found = database.first(f"SELECT COUNT(*) FROM ({rows}) counted")
    assert found is not None
    return min(int(found[0]), limit)


@contextmanager
def _asked(source: SqlSource) -> Iterator[Database]:
    database = open_database(source, SECONDS)
    import sqlalchemy as sa

    try:
        yield database
    except sa.exc.SQLAlchemyError as error:
        raw = getattr(error, "orig", None)
        code = raw.args[0] if isinstance(raw, Exception) and raw.args else None
        if code in _TOO_LONG or getattr(raw, "sqlstate", None) in _TOO_LONG:
            raise _TooLong from None
        raise database.explain(error) from None
    finally:
        database.forget()
