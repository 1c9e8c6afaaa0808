"""PostgreSQL and SQLite: the whole load is one transaction, tables included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from etl_ml.lake.identity import ROW
from etl_ml.lake.progress import Progress
from etl_ml.load.load_error import LoadError
from etl_ml.load.rows import Rows
from etl_ml.load.sql_table import SqlTable
from etl_ml.spec.destination import SqlDestination
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Connection

_BATCH = 50_000
_STAGE = "etl_ml_stage"

Insert = Callable[["Connection", str, "pl.DataFrame", "pl.DataFrame"], int]
"""Puts a frame (the second: with `_etl_ml_row`) into the table of that name; returns bytes."""


def write_in_transaction(
    connection: Connection,
    rows: Rows,
    destination: SqlDestination,
    key: Sequence[str],
    progress: Progress,
    insert: Insert,
) -> None:
    """Load rows; the caller has begun the transaction and holds the lock."""
    run = connection.exec_driver_sql
    quote = connection.dialect.identifier_preparer.quote_identifier
    table = SqlTable.plan(connection, destination.table, rows, destination.mode, key)
    target = (f"{quote(table.schema)}." if table.schema else "") + quote(table.name)
    names = ", ".join(map(quote, table.columns))
    if not table.exists:
        run(f"CREATE TABLE {target} {table.ddl}")
    into = target
    if destination.mode == "replace":
        run(f"DELETE FROM {target}")  # until the commit, readers see what was
    else:
        run(f"CREATE TEMPORARY TABLE {_STAGE} AS SELECT {names} FROM {target} WHERE 1 = 0")
        into = _STAGE
    for batch in rows.batches(_BATCH):
        rows.refuse_null_key(batch, table.key)
        rows.too_long(batch, table.limits)
        sent = insert(connection, f"{into} ({names})", batch.select(table.columns), batch)
        progress.add(batch.height, sent)
    if destination.mode == "replace":
        return
    columns = [quote(name) for name in table.columns]
    select = f"SELECT {', '.join(f's.{name}' for name in columns)} FROM {_STAGE} s"
    if destination.mode == "append":
        row = quote(ROW)
        run(
            f"INSERT INTO {target} ({names}) {select} "
            f"WHERE NOT EXISTS (SELECT 1 FROM {target} t WHERE t.{row} = s.{row})"
        )
    else:
        known = ", ".join(map(quote, table.key))
        twice = run(
            f"SELECT {known} FROM {_STAGE} GROUP BY {known} HAVING COUNT(*) > 1 LIMIT 1"
        ).first()
        if twice is not None:
            raise LoadError(
                f"two rows have one key ({known}).",
                seen=None if rows.sensitive else bounded(tuple(twice)),
                where=destination.display,
                fix="choose a key that is unique",
            )
        others = [name for name in columns if name not in map(quote, table.key)]
        updates = ", ".join(f"{name} = excluded.{name}" for name in others)
        run(
            f"INSERT INTO {target} ({names}) {select} WHERE 1 = 1 ON CONFLICT ({known}) DO "
            + (f"UPDATE SET {updates}" if updates else "NOTHING")
        )
    run(f"DROP TABLE {_STAGE}")
