"""PostgreSQL: COPY inside one transaction."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import ROW
from etl_ml.lake.progress import Progress
from etl_ml.load.load_error import LoadError
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
    """Load rows in one transaction; another load of the same table waits for its end."""
    run = connection.exec_driver_sql
    run("SET TIME ZONE 'UTC'")
    run("BEGIN")
    try:
        name = destination.table.replace("'", "''")
        run(f"SELECT pg_advisory_xact_lock(hashtextextended('etl_ml {name}', 0))")
        write_in_transaction(connection, rows, destination, key, progress, _copy)
        run("COMMIT")
    except BaseException:
        if not connection.invalidated and not connection.closed:
            raw: Any = connection.connection.driver_connection
            if not raw.closed:
                raw.rollback()
        raise


def _copy(connection: Connection, into: str, frame: pl.DataFrame, batch: pl.DataFrame) -> int:
    import psycopg
    from sqlalchemy.exc import DBAPIError

    # Texts are quoted and nothing else is, so that the word NULL is null and "NULL" a text.
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=False, null_value="NULL", quote_style="non_numeric")
    raw: Any = connection.connection.cursor()
    try:
        with raw.copy(f"COPY {into} FROM STDIN (FORMAT csv, NULL 'NULL')") as copy:
            copy.write(buffer.getbuffer())
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] == "22":
            raise _refused(error, batch) from None
        raise DBAPIError("COPY", None, error, hide_parameters=True) from None
    return buffer.tell()


def _refused(error: Any, batch: pl.DataFrame) -> LoadError:
    # The context names line and column, and then quotes the cell, which is left out.
    place = re.match(r"COPY .*?, line (\d+)(?:, column ([^:]+))?", error.diag.context or "")
    row = f"row {batch[ROW][int(place[1]) - 1]}" if place else None
    column = f"column {place[2]!r}" if place and place[2] else "a column"
    return LoadError(
        f"{column}: a value does not fit into the table ({error.sqlstate}).",
        seen=row,
        fix="give the table's column the contract's type",
    )
