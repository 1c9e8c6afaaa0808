"""A database: how its SQL is written, and how answers come as Arrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.source_error import SourceError
from etl_ml.extract.sql_columns import (
    SqlColumn,
    SqlTable,
    checked,
    mysql_columns,
    postgres_columns,
    sampled_columns,
)
from etl_ml.extract.sql_errors import kind_of, named
from etl_ml.spec.source import SqlSource

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.exc import SQLAlchemyError

_DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}
_SESSIONS = {
    "mysql": ("SET time_zone = '+00:00'", "SET SESSION TRANSACTION READ ONLY"),
    "postgresql": ("SET TIME ZONE 'UTC'", "SET default_transaction_read_only = on"),
}
_CLOCKS = {
    "mysql": "SELECT UTC_TIMESTAMP(6)",
    "postgresql": "SELECT clock_timestamp() AT TIME ZONE 'UTC'",
    "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "mssql": "SELECT SYSUTCDATETIME()",
    "oracle": "SELECT SYS_EXTRACT_UTC(SYSTIMESTAMP) FROM DUAL",
}
_ROWS = 16_384
_FAILURES = 3  # of connectorx where the driver had none: what it cannot read, it never will
_COMMENT = re.compile(r"--[^\n]*|#[^\n]*|/\*(?!!).*?\*/", re.S)
_QUOTED = re.compile(r"'(?:[^'\\]|''|\\.)*'|\"(?:[^\"\\]|\"\"|\\.)*\"|`[^`]*`", re.S)


class Database:
    """A connection pool of one, its dialect, and the rows that `source` names.

    Sessions are read-only and in UTC where the database has such a setting.

    Parameters
    ----------
    seconds : how long an answer may take, where the database has a setting for it
    """

    def __init__(self, source: SqlSource, seconds: float | None = None) -> None:
        self.address = source.address
        self._source = source
        self.url = _url(source)
        self.kind = self.url.get_backend_name()
        self._seconds = seconds
        self._engine = _engine(self.url, seconds)
        self._preparer = self._engine.dialect.preparer(self._engine.dialect)
        # As it is sent: no parameters, so nothing takes a `%` away again.
        self._preparer._double_percents = False
        self._literals = type(self._engine.dialect)(paramstyle="named")
        self._connection: Connection | None = None
        self._slow, self._failures = not _fast(self.url), 0
        if source.table is not None:
            parts = [self.quote(part) for part in source.table.split(".")]
            self.rows = f"{'.'.join(parts)} q"
        else:
            self.rows = f"(\n{one_select(source.query or '')}\n) q"

    def quote(self, name: str) -> str:
        """A name as the dialect quotes it."""
        return str(self._preparer.quote_identifier(name))

    def cell(self, name: str) -> str:
        """A column of the rows; a bare name could mean what is selected under it."""
        return f"q.{self.quote(name)}"

    def literal(self, value: object) -> str:
        """A value as SQL that compares as the value does; moments in UTC."""
        import sqlalchemy as sa

        if isinstance(value, datetime) and value.tzinfo:
            value = value.astimezone(UTC).replace(tzinfo=None)
        if isinstance(value, bytes | bytearray | memoryview):
            digits = bytes(value).hex()
            return f"'\\x{digits}'::bytea" if self.kind == "postgresql" else f"X'{digits}'"
        if self.kind == "mysql" and isinstance(value, str):
            # No escapes: whether a backslash is one depends on the server's sql_mode.
            return f"_utf8mb4 X'{value.encode().hex()}'"
        if not isinstance(value, bool | int | float | str | datetime) and not hasattr(
            value, "isoformat"
        ):
            value = value if type(value).__name__ == "Decimal" else str(value)
        clause = sa.literal(value)
        return str(clause.compile(dialect=self._literals, compile_kwargs={"literal_binds": True}))

    def window(self, rows: int) -> str:
        """SQL at the end of an ordered query: the row that many rows behind the first."""
        if self.kind in ("mysql", "postgresql", "sqlite"):
            return f"LIMIT 1 OFFSET {rows}"
        return f"OFFSET {rows} ROWS FETCH NEXT 1 ROWS ONLY"

    def columns(self) -> list[SqlColumn]:
        """What the rows have; asks without reading them, where the database can."""
        kind = f"{self.kind}+{self.url.get_driver_name()}"
        if kind == "mysql+pymysql":
            with self._execute(f"SELECT * FROM {self.rows} LIMIT 0") as result:
                found = mysql_columns(result, self.cell)
        elif kind == "postgresql+psycopg":
            with self._execute(f"SELECT * FROM {self.rows} LIMIT 0") as result:
                found = postgres_columns(result, self.cell, self._arrays)
        else:
            with self._execute(f"SELECT * FROM {self.rows}") as result:
                found = sampled_columns(result, self.cell, self._declared())
        return list(checked(found, self.address))

    def table(self, columns: Sequence[SqlColumn]) -> SqlTable:
        """How rows become batches."""
        doubtful = [column for column in columns if column.unfit]
        if not doubtful:
            return SqlTable(columns, None)
        build = "JSON_OBJECT" if self.kind == "mysql" else "json_build_object"
        texts = ", ".join(f"{self.literal(c.name)}, {c.text}" for c in doubtful)
        told = f"CAST({build}({texts}) AS {'CHAR' if self.kind == 'mysql' else 'text'})"
        unfit = " OR ".join(str(column.unfit) for column in doubtful)
        return SqlTable(columns, f"CASE WHEN {unfit} THEN {told} END")

    def primary_key(self) -> list[str]:
        """The table's own; none for a query or a view."""
        import sqlalchemy as sa

        if self._source.table is None:
            return []
        schema, _, table = self._source.table.rpartition(".")
        found = sa.inspect(self._connected()).get_pk_constraint(table, schema=schema or None)
        return list(found["constrained_columns"])

    def tables(self) -> list[str]:
        """The names of the tables beside the one that was not found; none when that fails too."""
        import sqlalchemy as sa

        try:
            return sa.inspect(self._connected()).get_table_names()
        except sa.exc.SQLAlchemyError:
            return []

    def clock(self) -> datetime | None:
        """The server's UTC now."""
        ask = _CLOCKS.get(self.kind)
        if ask is None:
            return None
        with self._execute(ask) as result:
            now = result.scalar_one()
        now = datetime.fromisoformat(now) if isinstance(now, str) else now
        return now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)

    def first(self, sql: str) -> tuple[Any, ...] | None:
        """The first row of an answer."""
        with self._execute(sql) as result:
            row = result.first()
        return tuple(row) if row is not None else None

    def read(self, table: SqlTable, tail: str) -> list[pa.RecordBatch]:
        """All rows of one bounded query, whole or not at all."""
        import sqlalchemy as sa

        if self._slow:
            return list(self.stream(table, tail))
        try:
            return self._read_fast(table, tail)
        except sa.exc.SQLAlchemyError:
            raise
        except BaseException as error:
            # A panic in Rust is no Exception. Whatever it was, the driver can name it.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            batches = list(self.stream(table, tail))
            self._failures += 1
            self._slow = self._failures >= _FAILURES
            return batches

    def stream(self, table: SqlTable, tail: str) -> Iterator[pa.RecordBatch]:
        """The rows of a query as they arrive, in batches of bounded size."""
        with self._execute(self._select(table, tail)) as result:
            while rows := result.fetchmany(_ROWS):
                yield table.batch(list(zip(*rows, strict=True)), len(rows))

    def forget(self) -> None:
        """Drop a connection that may be broken."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def explain(self, error: SQLAlchemyError) -> SourceError:
        """The error for the person who must fix it."""
        table = (self._source.table or "").rpartition(".")[2] or None
        tables = self.tables() if table and kind_of(error) == "table" else ()
        return named(error, self.url, self.address, table, tables)

    def _select(self, table: SqlTable, tail: str) -> str:
        cells = zip(table.select, table.names, strict=True)
        listed = ", ".join(f"{ask} AS {self.quote(name)}" for ask, name in cells)
        return f"SELECT {listed} FROM {self.rows} {tail}"

    def _read_fast(self, table: SqlTable, tail: str) -> list[pa.RecordBatch]:
        import connectorx

        options: Any = {"protocol": "binary"} if self.kind == "mysql" else {}
        url = self.url.set(drivername=self.kind, query={})
        rows = connectorx.read_sql(
            url.render_as_string(hide_password=False),
            self._select(table, tail),
            return_type="arrow",
            pre_execution_query=list(_SESSIONS[self.kind]),
            **options,
        )
        return [
            table.batch(batch.columns, batch.num_rows)
            for batch in rows.to_batches(65_536)
            if batch.num_rows
        ]

    def _connected(self) -> Connection:
        import sqlalchemy as sa

        if self._connection is None or self._connection.invalidated:
            try:
                connection = self._engine.connect()
                for setting in (*_SESSIONS.get(self.kind, ()), *self._limits()):
                    connection.exec_driver_sql(setting)
                connection.commit()
            except ModuleNotFoundError as missing:
                _missing(missing, self.address)
            except sa.exc.SQLAlchemyError:
                self._engine.dispose()
                raise
            self._connection = connection.execution_options(no_parameters=True)
        return self._connection

    def _limits(self) -> list[str]:
        if self._seconds is None:
            return []
        if self.kind == "postgresql":
            return [f"SET statement_timeout = {int(self._seconds * 1000)}"]
        if self.kind == "mysql" and getattr(self._engine.dialect, "is_mariadb", False):
            return [f"SET SESSION max_statement_time = {self._seconds}"]
        if self.kind == "mysql":
            return [f"SET SESSION max_execution_time = {int(self._seconds * 1000)}"]
        return []

    def _execute(self, sql: str) -> _Answer:
        return _Answer(self._connected(), sql)

    def _arrays(self, types: Sequence[int]) -> set[int]:
        numbers = ", ".join(str(number) for number in types) or "0"
        ask = f"SELECT oid FROM pg_type WHERE typcategory = 'A' AND oid IN ({numbers})"
        with self._execute(ask) as result:
            return {int(number) for number in result.scalars()}

    def _declared(self) -> dict[str, str]:
        if self.kind != "sqlite" or self._source.table is None:
            return {}
        schema, _, name = self._source.table.rpartition(".")
        table = f"{self.quote(schema)}." if schema else ""
        with self._execute(f"PRAGMA {table}table_xinfo({self.quote(name)})") as result:
            return {str(row[1]): str(row[2] or "") for row in result}


class _Answer:
    """A query's result for the time of a block; what was not read is not waited for."""

    def __init__(self, connection: Connection, sql: str) -> None:
        self._connection, self._sql = connection, sql

    def __enter__(self) -> Any:
        options = {"stream_results": True, "max_row_buffer": _ROWS}
        self._result = self._connection.execution_options(**options).exec_driver_sql(self._sql)
        return self._result

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._result.close()
            self._connection.rollback()
            return
        # Closing reads what is left to its end, and fails where the connection is gone.
        left: Any = getattr(self._result.cursor, "_result", None)
        if hasattr(left, "unbuffered_active"):
            left.unbuffered_active = False
        self._connection.invalidate()
        with suppress(Exception):
            self._result.close()


def one_select(query: str) -> str:
    """The query without what ends it; refused unless it is one SELECT.

    Raises
    ------
    SourceError
    """
    bare = _COMMENT.sub(" ", _QUOTED.sub("''", query)).strip()
    ended = bare.rstrip("; \n\t\r")
    word = re.match(r"[(\s]*(\w+)", ended)
    if ";" in ended or "/*" in ended or word is None or word[1].upper() not in ("SELECT", "WITH"):
        raise SourceError(
            "source.query is not one SELECT.",
            seen=f"it begins with {word[1].upper()[:20]}" if word and ";" not in ended else None,
            where="source.query",
            fix="write one statement that begins with SELECT or WITH",
        )
    return query.strip() if bare == ended else query.strip().rstrip("; \n\t\r")


def _url(source: SqlSource) -> URL:
    import sqlalchemy as sa

    try:
        url = sa.make_url(source.url.get_secret_value())
    except (sa.exc.ArgumentError, ValueError):
        raise SourceError(
            "source.url is not a database URL.",
            where="source.url",
            fix="write mysql://user:password@host:3306/database, with %40 for an @ in the password",
        ) from None
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def _engine(url: URL, seconds: float | None = None) -> Any:
    import sqlalchemy as sa

    try:
        kind = url.get_backend_name()
        patience = 20 if seconds is None else max(1, round(seconds / 2))
        timeout = {"connect_timeout": patience} if kind in ("mysql", "postgresql") else {}
        if url.get_driver_name() == "pymysql":
            timeout["read_timeout"] = 3600 if seconds is None else 2 * round(seconds)
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=timeout)
    except ModuleNotFoundError as missing:
        _missing(missing, url.get_backend_name())
    except sa.exc.NoSuchModuleError:
        raise SourceError(
            f"source.url: no database is called {url.drivername!r} here.",
            where="source.url",
            fix="use mysql:// or postgresql:// or sqlite:///, or install its SQLAlchemy dialect",
        ) from None


def _missing(missing: ModuleNotFoundError, address: str) -> NoReturn:
    raise SourceError(
        f"{address}: the package {missing.name!r} is not installed.",
        where="source.url",
        fix=f"pip install 'etl_ml[sql]' or pip install {missing.name}",
    ) from None


def _fast(url: URL) -> bool:
    """Whether connectorx may read it; it would not keep to options of the URL such as TLS."""
    known = url.get_backend_name() in ("mysql", "postgresql") and url.get_driver_name() in (
        "pymysql",
        "psycopg",
    )
    return known and bool(url.host) and set(url.query) <= {"charset"}
