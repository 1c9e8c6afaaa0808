"""SQL databases: side tables and transactions, so that a version is there as a whole or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from etl_ml.lake.backoff import Backoff
from etl_ml.lake.progress import Progress
from etl_ml.load.load_error import LoadError, LostConnection
from etl_ml.load.rows import Rows
from etl_ml.spec.destination import SqlDestination
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

Write = Callable[["Connection", Rows, SqlDestination, Sequence[str], Progress], None]


def load_rows(
    rows: Rows, destination: SqlDestination, key: Sequence[str], progress: Progress
) -> None:
    """Load rows into a table; begun anew when the connection is lost.

    Raises
    ------
    LoadError
        The table is as it was.
    """
    from sqlalchemy.exc import DBAPIError

    engine, write = engine_of(destination)
    backoff = Backoff()
    connected, furthest = False, -1
    try:
        while True:
            progress.restart()
            try:
                with engine.connect() as connection:
                    connected = True
                    write(connection, rows, destination, key, progress)
                return
            except DBAPIError as error:
                reason = _explained(error, rows, destination)
                reason.heals = _heals(error)
                if not connected or not _heals(error):
                    raise reason from None
            except LostConnection as lost:
                reason = lost.reason
            engine.dispose()
            if progress.rows > furthest:  # further than ever: patience begins anew
                furthest = progress.rows
                backoff.reset()
            progress.say(f"interrupted ({reason.what}); beginning anew")
            backoff.wait(reason)
    finally:
        engine.dispose()


def engine_of(destination: SqlDestination) -> tuple[Engine, Write]:
    """An engine that has not connected yet, and how its dialect writes a version."""
    try:
        from sqlalchemy import create_engine, make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError:
        raise _missing("SQLAlchemy") from None
    try:
        url = make_url(destination.url.get_secret_value())
    except (ArgumentError, ValueError):
        raise LoadError(
            "the database's URL cannot be read.",
            where="load: url",
            fix="write dialect://user:password@host:port/database, each part percent-encoded",
        ) from None
    name = url.drivername.partition("+")[0]
    options: dict[str, object] = {}
    write: Write
    if name in ("mysql", "mariadb"):
        from etl_ml.load.mysql import write

        driver = "pymysql"
        options = {"connect_timeout": 10, "local_infile": True, "charset": "utf8mb4"}
    elif name in ("postgresql", "postgres"):
        from etl_ml.load.postgresql import write

        name, driver, options = "postgresql", "psycopg", {"connect_timeout": 10}
    else:
        from etl_ml.load.sqlite import write

        driver, options = "pysqlite", {} if "timeout" in url.query else {"timeout": 60.0}
    if "+" not in url.drivername:
        url = url.set(drivername=f"{name}+{driver}")
    try:
        # Neither values nor parameters in errors; statements without parameters as they are.
        engine = create_engine(
            url,
            connect_args=options,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            execution_options={"no_parameters": True},
        )
    except ImportError:
        raise _missing(driver) from None
    return engine, write


def _missing(package: str) -> LoadError:
    return LoadError(f"{package} is not installed.", fix="pip install 'etl_ml[sql]'")


# MySQL: too many connections, shutdown, lock wait, deadlock, gone, lost, killed, no such server now
_HEALING_CODES = {0, 1040, 1053, 1205, 1213, 1927, 2002, 2003, 2006, 2013, 2055, 4031}
_HEALING_STATES = ("08", "40", "53", "57P", "55P03")
_HEALING_TEXTS = ("database is locked", "connection refused", "server closed the connection")
_REFUSALS = {
    1045: ("the user or the password is wrong", "correct user and password in url"),
    1698: ("the user or the password is wrong", "correct user and password in url"),
    1049: ("there is no such database", "create it, or correct its name in url"),
    1044: ("the user may not use this database", "grant it the right"),
    1142: ("the user lacks a right on the table", "grant SELECT, INSERT, CREATE, DROP, ALTER"),
    1370: ("the user lacks a right", "grant it"),
    1227: ("the user lacks a right", "grant it"),
    2003: ("the server cannot be reached", "correct host and port in url, or start the server"),
    1290: ("the server is read-only", "name the primary in url"),
    1836: ("the server is read-only", "name the primary in url"),
    1062: ("two rows have one key", "choose a key that is unique"),
    1021: ("the server's disk is full", "make room there"),
    1114: ("the table is full", "make room on the server"),
    1118: ("a row is too large for the database", "drop columns"),
    "28": ("the user or the password is wrong", "correct user and password in url"),
    "3D": ("there is no such database", "create it, or correct its name in url"),
    "42501": ("the user lacks a right", "grant SELECT, INSERT, DELETE and CREATE"),
    "53100": ("the server's disk is full", "make room there"),
    "23505": ("two rows have one key", "choose a key that is unique"),
    "password authentication failed": (
        "the user or the password is wrong",
        "correct user and password in url",
    ),
    "does not exist": ("there is no such database", "create it, or correct its name in url"),
    "resolve": ("the host is unknown", "correct the host in url"),
    "getaddrinfo": ("the host is unknown", "correct the host in url"),
    "Name or service": ("the host is unknown", "correct the host in url"),
    "Connection refused": ("the server cannot be reached", "correct host and port in url"),
    "timeout expired": ("the server cannot be reached", "correct host and port in url"),
    "unable to open database file": ("the file cannot be opened", "create its folder"),
    "readonly database": ("the file is read-only", "make it writable"),
    "disk is full": ("the disk is full", "make room; the table is as it was"),
    "is not a database": ("the file is not a SQLite database", "name another file"),
    "database is locked": ("the database is locked by another process", "end that one"),
    "UNIQUE constraint failed": ("two rows have one key", "choose a key that is unique"),
}


def _codes(error: DBAPIError) -> tuple[int | None, str, str]:
    """MySQL's error number, the SQLSTATE, and the text, as far as there are any."""
    cause = error.orig
    first = cause.args[0] if cause is not None and cause.args else None
    number = first if isinstance(first, int) else None
    return number, getattr(cause, "sqlstate", None) or "", str(cause)


def _heals(error: DBAPIError) -> bool:
    number, state, text = _codes(error)
    if state == "53100":
        return False
    return (
        number in _HEALING_CODES
        or state.startswith(_HEALING_STATES)
        or (number is None and error.connection_invalidated)
        or any(t in text.lower() for t in _HEALING_TEXTS)
    )


def _explained(error: DBAPIError, rows: Rows, destination: SqlDestination) -> LoadError:
    number, state, text = _codes(error)
    for sign, (what, fix) in _REFUSALS.items():
        if number == sign or (
            isinstance(sign, str)
            and (state.startswith(sign) if sign[:2].isdigit() or sign == "3D" else sign in text)
        ):
            unknown = any(t in text for t in ("getaddrinfo", "not known", "resolution"))
            told = "the host is unknown" if sign == 2003 and unknown else what
            return LoadError(f"{told}.", where=destination.display, fix=fix)
    code = number or state or type(error.orig).__name__
    # A server's words may quote a cell.
    seen = None if rows.sensitive else bounded(text.splitlines()[0] if text else "", 160)
    return LoadError(
        f"the database refused ({code}).",
        seen=seen,
        where=destination.display,
        fix="look the code up in the database's list of errors, and at the table's constraints",
    )
