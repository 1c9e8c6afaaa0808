"""SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etl_ml.lake.progress import Progress
from etl_ml.load.rows import Rows
from etl_ml.load.transaction import write_in_transaction
from etl_ml.spec.destination import SqlDestination

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Connection


def write(
    connection: Connection,
    rows: Rows,
    destination: SqlDestination,
    key: Sequence[str],
    progress: Progress,
) -> None:
    """Load rows in one transaction, alone among writers."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        write_in_transaction(connection, rows, destination, key, progress, _insert)
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        # A full disk has rolled back by itself.
        if connection.connection.in_transaction:
            connection.exec_driver_sql("ROLLBACK")
        raise


def _insert(connection: Connection, into: str, frame: pl.DataFrame, batch: pl.DataFrame) -> int:
    import polars as pl
    from polars import selectors

    # As SQLAlchemy writes them: SQLite itself has neither type.
    plain = frame.with_columns(
        selectors.datetime().dt.strftime("%Y-%m-%d %H:%M:%S%.6f"),
        selectors.date().dt.strftime("%Y-%m-%d"),
        pl.col(pl.Boolean).cast(pl.Int8),
    )
    marks = ", ".join(["?"] * frame.width)
    connection.exec_driver_sql(f"INSERT INTO {into} VALUES ({marks})", plain.rows())
    return int(frame.estimated_size())
