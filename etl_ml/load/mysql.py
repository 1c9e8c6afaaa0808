"""MySQL and MariaDB: a side table filled by LOAD DATA, then one atomic step."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from etl_ml.lake.identity import ROW
from etl_ml.lake.progress import Progress
from etl_ml.load.load_error import LoadError, LostConnection
from etl_ml.load.rows import Rows
from etl_ml.load.sql_table import SqlTable
from etl_ml.spec.destination import SqlDestination
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Connection

_BATCH = 50_000
_PATIENCE = 600  # seconds to wait for another load of the same table
_NO_INFILE = (1148, 2068, 3948, 4166)
_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'",
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION lock_wait_timeout = 60",
)


def write(
    connection: Connection,
    rows: Rows,
    destination: SqlDestination,
    key: Sequence[str],
    progress: Progress,
) -> None:
    """Fill a side table, then swap it in, or merge it, in one statement."""
    run = connection.exec_driver_sql
    quote = connection.dialect.identifier_preparer.quote_identifier
    for statement in _SESSION:
        run(statement)
    with _alone(connection, destination, progress):
        table = SqlTable.plan(connection, destination.table, rows, destination.mode, key)
        of_schema = f"{quote(table.schema)}." if table.schema else ""
        target = of_schema + quote(table.name)
        stem = f"{_stem(table.name)}__etl_ml_"
        for leftover in _leftovers(connection, table.schema, stem):
            run(f"DROP TABLE IF EXISTS {of_schema}{quote(leftover)}")
        side = of_schema + quote(stem + rows.version)
        old = of_schema + quote(f"{stem}{rows.version}_old")
        if not table.exists and destination.mode != "replace":
            run(f"CREATE TABLE {target} {table.ddl}")
        if table.exists or destination.mode != "replace":
            run(f"CREATE TABLE {side} LIKE {target}")
        else:
            run(f"CREATE TABLE {side} {table.ddl}")
        try:
            _fill(connection, side, table, rows, progress)
        except LoadError:
            run(f"DROP TABLE {side}")
            raise
        if destination.mode == "replace":
            if table.exists:
                run(f"RENAME TABLE {target} TO {old}, {side} TO {target}")
                run(f"DROP TABLE {old}")
            else:
                run(f"RENAME TABLE {side} TO {target}")
            return
        names = [quote(name) for name in table.columns]
        insert = (
            f"INSERT INTO {target} ({', '.join(names)}) "
            f"SELECT {', '.join(f's.{n}' for n in names)} FROM {side} s "
        )
        if destination.mode == "append":
            row = quote(ROW)
            run(f"{insert}LEFT JOIN {target} t ON t.{row} = s.{row} WHERE t.{row} IS NULL")
        else:
            updates = ", ".join(f"{n} = s.{n}" for n in names)
            run(f"{insert}ON DUPLICATE KEY UPDATE {updates}")
        run(f"DROP TABLE {side}")


@contextmanager
def _alone(
    connection: Connection, destination: SqlDestination, progress: Progress
) -> Iterator[None]:
    """Hold the server's lock on this destination; it ends with the connection at the latest."""
    name = connection.exec_driver_sql("SELECT DATABASE()").scalar()
    lock = f"etl_ml_{crc32(f'{name}.{destination.table}'.lower().encode()):08x}"
    if not connection.exec_driver_sql(f"SELECT GET_LOCK('{lock}', 1)").scalar():
        progress.say("waiting for another load of this table")
        if not connection.exec_driver_sql(f"SELECT GET_LOCK('{lock}', {_PATIENCE})").scalar():
            raise LostConnection(
                LoadError(
                    "another load of this table does not end.",
                    where=destination.display,
                    fix="end it, then load again",
                )
            )
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql(f"SELECT RELEASE_LOCK('{lock}')")


def _stem(name: str) -> str:
    """MySQL's names have 64 characters at most."""
    return name if len(name) <= 40 else f"{name[:31]}_{crc32(name.encode()):08x}"


def _leftovers(connection: Connection, schema: str | None, stem: str) -> list[str]:
    """What killed loads left behind: nobody else holds the lock."""
    from sqlalchemy import inspect

    ours = re.compile(re.escape(stem) + r"[0-9]{10}(_old)?", re.IGNORECASE)
    names = inspect(connection).get_table_names(schema)
    return [name for name in names if ours.fullmatch(name)]


def _fill(
    connection: Connection, side: str, table: SqlTable, rows: Rows, progress: Progress
) -> None:
    from pymysql.err import MySQLError

    raw: Any = connection.connection.cursor()
    infile = True
    for batch in rows.batches(_BATCH):
        rows.refuse_null_key(batch, table.key)
        rows.too_long(batch, table.limits)
        rows.not_finite(batch)
        frame = _plain(batch.select(table.columns), rows)
        sent = 0
        if infile:
            try:
                sent = _load_data(connection, side, frame, batch, rows)
            except MySQLError as error:
                if error.args[0] not in _NO_INFILE:
                    raise _as_dbapi(error) from None
                infile = False
        if not infile:
            sent = _insert(connection, raw, side, frame)
        progress.add(batch.height, sent)


def _load_data(
    connection: Connection, side: str, frame: pl.DataFrame, batch: pl.DataFrame, rows: Rows
) -> int:
    raw: Any = connection.connection.cursor()
    quote = connection.dialect.identifier_preparer.quote_identifier
    names = ", ".join(map(quote, frame.columns))
    with tempfile.NamedTemporaryFile(prefix="etl_ml_", suffix=".csv") as file:
        # Texts are quoted and nothing else is, so that the word NULL is null and "NULL" a text.
        frame.write_csv(
            file.name, include_header=False, null_value="NULL", quote_style="non_numeric"
        )
        path = file.name.replace("\\", "\\\\").replace("'", "\\'")
        taken = raw.execute(
            f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {side} CHARACTER SET utf8mb4 "
            "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' "
            f"LINES TERMINATED BY '\\n' ({names})"
        )
        size = Path(file.name).stat().st_size
    # LOCAL makes warnings of errors: what did not fit was cut, and equal keys were left out.
    if taken != frame.height or raw.warning_count:
        raw.execute("SHOW WARNINGS LIMIT 1")
        _level, code, message = raw.fetchone() or ("", 0, "")
        raise _refused(code, message, batch, rows)
    return size


def _refused(code: int, message: str, batch: pl.DataFrame, rows: Rows) -> LoadError:
    if code == 1062:
        return LoadError(
            "two rows have one key.",
            seen=None if rows.sensitive else bounded(message),
            fix="choose a key that is unique",
        )
    # Only these two are taken from the message: the rest may quote a cell.
    column = re.search(r"column\s+[`'\"]?(?:\S*\.)?[`'\"]?(\w+)", message)
    number = re.search(r"at row (\d+)", message)
    at = int(number[1]) - 1 if number else -1
    row = f"row {batch[ROW][at]}" if 0 <= at < batch.height else None
    named = f"column {column[1]!r}" if column else "a column"
    return LoadError(
        f"{named}: a value does not fit into the table ({code}).",
        seen=row,
        fix="give the table's column the contract's type",
    )


def _insert(connection: Connection, raw: Any, side: str, frame: pl.DataFrame) -> int:
    """Multi-row inserts, for servers that do not allow LOAD DATA LOCAL."""
    from pymysql.err import MySQLError

    quote = connection.dialect.identifier_preparer.quote_identifier
    names = ", ".join(quote(name).replace("%", "%%") for name in frame.columns)
    marks = ", ".join(["%s"] * frame.width)
    try:
        raw.executemany(
            f"INSERT INTO {side.replace('%', '%%')} ({names}) VALUES ({marks})", frame.rows()
        )
    except MySQLError as error:
        raise _as_dbapi(error) from None
    return int(frame.estimated_size())


def _plain(frame: pl.DataFrame, rows: Rows) -> pl.DataFrame:
    """Cells as MySQL reads them."""
    import polars as pl

    kinds = {name: column.type for name, column in rows.columns.items()}
    return frame.with_columns(
        pl.col(name).cast(pl.Int8)
        if kinds.get(name) == "boolean"
        else pl.col(name).dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
        for name in frame.columns
        if kinds.get(name) in ("boolean", "datetime")
    )


def _as_dbapi(error: Exception) -> Exception:
    """As SQLAlchemy would have raised it."""
    from sqlalchemy.exc import DBAPIError

    return DBAPIError("LOAD", None, error, hide_parameters=True)
