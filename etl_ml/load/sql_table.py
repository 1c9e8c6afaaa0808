"""A SQL table: its columns from the contract, or as they are when it exists already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_ml.lake.identity import ROW
from etl_ml.load.load_error import LoadError
from etl_ml.load.rows import Rows, same_columns
from etl_ml.spec.contract import TEXTS, Column, ColumnType
from etl_ml.spec.error import listed

if TYPE_CHECKING:
    from sqlalchemy import Connection

_KEY_TEXT = 255  # characters, where the contract sets no limit: MySQL has no unlimited key
_TYPES: Mapping[str, Mapping[ColumnType, str]] = {
    "mysql": {
        "integer": "BIGINT",
        "float": "DOUBLE",
        "boolean": "BOOLEAN",
        "datetime": "DATETIME(6)",
        "date": "DATE",
        "string": "LONGTEXT",
    },
    "postgresql": {
        "integer": "BIGINT",
        "float": "DOUBLE PRECISION",
        "boolean": "BOOLEAN",
        "datetime": "TIMESTAMPTZ",
        "date": "DATE",
        "string": "TEXT",
    },
    "sqlite": {
        "integer": "BIGINT",
        "float": "DOUBLE",
        "boolean": "BOOLEAN",
        "datetime": "TIMESTAMP",
        "date": "DATE",
        "string": "TEXT",
    },
}
# MySQL counts every VARCHAR into rows of at most 65,535 bytes, at 4 bytes a character.
_VARCHAR_LIMIT = {"mysql": 255, "postgresql": 10_485_760, "sqlite": 1_000_000_000}
_ROW_CHARACTERS = 12_000


@dataclass(frozen=True)
class SqlTable:
    """The table that is loaded.

    Attributes
    ----------
    columns : written, in order, `_etl_ml_row` last where it is one of them
    key : what a row is known by
    limits : the longest text a column takes, in characters, where there is a limit
    """

    schema: str | None
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    limits: Mapping[str, int]
    exists: bool
    ddl: str

    @classmethod
    def plan(
        cls, connection: Connection, table: str, rows: Rows, mode: str, key: Sequence[str]
    ) -> SqlTable:
        """What the table is to be, or is.

        Raises
        ------
        LoadError
            It exists with other columns, or in a way that the mode cannot work with.
        """
        from sqlalchemy import inspect

        kind = _kind(connection)
        schema, _, name = table.rpartition(".")
        inspector = inspect(connection)
        exists = inspector.has_table(name, schema=schema or None)
        if not exists and name in inspector.get_view_names(schema=schema or None):
            raise LoadError(f"{table} is a view.", fix="name a table")
        known = key if mode != "append" else ()
        if not exists:
            wanted = (*rows.columns,) if mode == "upsert" else (*rows.columns, ROW)
            types = {n: _type(kind, rows.columns.get(n), n in known) for n in wanted}
            if kind == "mysql":
                types = _within_row(types, known)
            body = _columns(connection, rows, types, known or (ROW,))
            limits = {
                n: int(t[8:-1]) for n, t in types.items() if t.startswith("VARCHAR(") and n != ROW
            }
            return cls(schema or None, name, wanted, tuple(known) or (ROW,), limits, False, body)
        found = {column["name"]: column for column in inspector.get_columns(name, schema or None)}
        want = [*rows.columns, ROW] if mode == "append" else list(rows.columns)
        same_columns(list(found), want, [ROW], f"the table {table}")
        if mode == "upsert":
            _unique_on(inspector, name, schema or None, known)
        limits = {n: length for n, c in found.items() if (length := _length(c["type"]))}
        return cls(
            schema or None,
            name,
            tuple(n for n in (*rows.columns, ROW) if n in found),
            tuple(known) or (ROW,),
            limits,
            True,
            "",
        )


def _kind(connection: Connection) -> str:
    name = connection.dialect.name
    return "mysql" if name == "mariadb" else name


def _type(kind: str, column: Column | None, in_key: bool) -> str:
    if column is None:  # `_etl_ml_row`
        return "VARCHAR(64)"
    if column.type not in TEXTS:
        return _TYPES[kind][column.type]
    longest = column.max_length
    if column.allowed:
        longest = max(len(str(value)) for value in column.allowed)
    if in_key and kind == "mysql":
        return f"VARCHAR({min(longest or _KEY_TEXT, _KEY_TEXT)})"
    if longest is None or longest > _VARCHAR_LIMIT[kind]:
        return _TYPES[kind]["string"]
    return f"VARCHAR({longest})"


def _within_row(types: dict[str, str], key: Sequence[str]) -> dict[str, str]:
    """Texts that together would not fit into a row of MySQL's are kept outside of it."""
    left = _ROW_CHARACTERS
    fitting = {}
    for name, kind in types.items():
        length = int(kind[8:-1]) if kind.startswith("VARCHAR(") else 0
        left -= length
        fitting[name] = "LONGTEXT" if left < 0 and length and name not in (*key, ROW) else kind
    return fitting


def _columns(
    connection: Connection, rows: Rows, types: Mapping[str, str], key: Sequence[str]
) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    lines = []
    for name, kind in types.items():
        column = rows.columns.get(name)
        required = name in key or (column is not None and not column.nullable) or name == ROW
        lines.append(f"{quote(name)} {kind}{' NOT NULL' if required else ''}")
    lines.append(f"PRIMARY KEY ({', '.join(map(quote, key))})")
    # Texts are told apart exactly: by case, by accent and by trailing spaces.
    suffix = f" {_exact(connection)}" if _kind(connection) == "mysql" else ""
    return f"({', '.join(lines)}){suffix}"


def _exact(connection: Connection) -> str:
    no_pad = "utf8mb4_nopad_bin" if connection.dialect.is_mariadb else "utf8mb4_0900_bin"  # type: ignore[attr-defined]
    return f"CHARACTER SET utf8mb4 COLLATE {no_pad}"


def _length(kind: object) -> int | None:
    length = getattr(kind, "length", None)
    text = "CHAR" in type(kind).__name__.upper() or type(kind).__name__ == "String"
    return int(length) if text and length else None


def _unique_on(inspector: object, name: str, schema: str | None, key: Sequence[str]) -> None:
    """Upsert finds rows by the table's own unique index on the key, and there may be no other."""
    primary = inspector.get_pk_constraint(name, schema)["constrained_columns"]  # type: ignore[attr-defined]
    unique = {tuple(sorted(primary))} if primary else set()
    for index in inspector.get_indexes(name, schema):  # type: ignore[attr-defined]
        if index["unique"]:
            unique.add(tuple(sorted(c for c in index["column_names"] if c)))
    for constraint in inspector.get_unique_constraints(name, schema):  # type: ignore[attr-defined]
        unique.add(tuple(sorted(constraint["column_names"])))
    others = unique - {tuple(sorted(key))}
    if tuple(sorted(key)) not in unique:
        raise LoadError(
            f"the table {name} has no unique index on ({listed(key)}): upsert cannot find rows.",
            seen=f"unique are {listed(unique)}" if unique else "no index is unique",
            fix=f"create a unique index on ({listed(key)}), or name its columns as key",
        )
    if others:
        raise LoadError(
            f"the table {name} has other unique indexes than the key ({listed(key)}): "
            "a row could take the place of the wrong one.",
            seen=listed(", ".join(o) for o in others),
            fix="drop them, or use mode: replace",
        )
