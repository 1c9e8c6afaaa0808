"""What a database's refusal means: whether it may heal, and whom to tell what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from etl_ml.extract.source_error import SourceError, SourceUnavailable
from etl_ml.spec.error import bounded, nearest

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import SQLAlchemyError

# Lost, killed or refused connections, shutdowns, deadlocks, lock waits, too many connections.
_MYSQL_HEALS = {
    *(0, 1020, 1040, 1047, 1053, 1077, 1079, 1080, 1158, 1159, 1160, 1161, 1203, 1205, 1213),
    *(1226, 1317, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031),
}
_POSTGRES_HEALS = re.compile(r"08(?!P01)|40|53|57P0[1-5]|57014|55P03")
_MYSQL_NAMED = {
    **dict.fromkeys((1045, 1698, 1251, 1862), "login"),
    **dict.fromkeys((1044, 1142, 1143, 1227, 1370), "permission"),
    **dict.fromkeys((1046, 1049), "database"),
    **dict.fromkeys((1051, 1109, 1146), "table"),
    1054: "column",
    1060: "twice",
    1064: "syntax",
}
_POSTGRES_NAMED = {
    "28": "login",
    "42501": "permission",
    "3D000": "database",
    "3F000": "table",
    "42P01": "table",
    "42703": "column",
    "42702": "twice",
    "42701": "twice",
    "42601": "syntax",
}
_WORDS = {
    "host": r"name or service not known|nodename nor servname|getaddrinfo|failed to resolve"
    r"|could not translate host|name resolution|unknown (mysql )?server host",
    "login": r"password authentication failed|no password supplied|role .* does not exist"
    r"|access denied|login failed|no pg_hba\.conf entry|authentication",
    "database": r"database \"?.*\"? does not exist|unable to open database file"
    r"|not a database",
    "table": r"no such table|table or view does not exist|invalid object name",
    "column": r"no such column|invalid column name",
    "permission": r"permission denied",
    "syntax": r"syntax error",
}
_FIXES = {
    "host": ("the server's host is not known", "correct the host in source.url"),
    "login": ("the server refuses user or password", "correct user and password in source.url"),
    "permission": ("the user may not read this", "grant SELECT on it to the user of source.url"),
    "database": ("there is no such database", "correct the database in source.url"),
    "table": ("there is no such table", "correct source.table or source.query"),
    "column": ("there is no such column", "correct the name, or the query"),
    "twice": ("the query gives one column name twice", "name its columns apart with AS"),
    "syntax": ("the database does not understand the query", "run source.query in a SQL client"),
    "other": ("the database refuses", "try source.query or the table in a SQL client"),
    "lost": ("the connection was lost, and did not come back", "look at the server and its log"),
}
_LOST = re.compile(
    r"connection (refused|reset|timed out|is closed)|closed the connection|broken pipe|timeout"
    r"|terminating connection|starting up|shutting down|recovery mode|server has gone away"
    r"|connection (is )?(lost|bad)|database (table )?is locked|too many (clients|connections)"
)


def _code(error: SQLAlchemyError) -> object:
    raw = getattr(error, "orig", None)
    first = raw.args[0] if isinstance(raw, Exception) and raw.args else None
    if isinstance(first, int):  # MySQL's own number says more than its SQLSTATE
        return first
    state = getattr(raw, "sqlstate", None)
    return state if isinstance(state, str) else None


def kind_of(error: SQLAlchemyError) -> str:
    """One of `host, login, permission, database, table, column, twice, syntax, lost, other`."""
    code, text = _code(error), str(getattr(error, "orig", error)).lower()
    if re.search(_WORDS["host"], text):
        return "host"
    if isinstance(code, int):
        return _MYSQL_NAMED.get(code) or ("lost" if code in _MYSQL_HEALS else "other")
    if isinstance(code, str):
        if _POSTGRES_HEALS.match(code):
            return "lost"
        return _POSTGRES_NAMED.get(code) or _POSTGRES_NAMED.get(code[:2]) or "other"
    if found := next((kind for kind, words in _WORDS.items() if re.search(words, text)), None):
        return found
    if _LOST.search(text) or getattr(error, "connection_invalidated", False):
        return "lost"
    return "other"


def named(
    error: SQLAlchemyError, url: URL, address: str, table: str | None, tables: Iterable[str] = ()
) -> SourceError:
    """The error for the person who must fix it; the server's words without the password."""
    kind = kind_of(error)
    raw = getattr(error, "orig", None) or error
    words = " ".join(str(part) for part in raw.args if part) or type(raw).__name__
    words = " ".join(words.split())
    if url.password:
        words = words.replace(str(url.password), "…")
    what, fix = _FIXES[kind]
    return (SourceUnavailable if kind == "lost" else SourceError)(
        f"{address}: {what}.",
        seen=bounded(words, 240),
        where="source.url" if kind in ("host", "login", "database", "lost") else "source",
        close=nearest(table, tables) if kind == "table" and table else None,
        fix=fix,
    )
