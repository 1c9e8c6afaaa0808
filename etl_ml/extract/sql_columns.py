"""The columns of a query: how each is asked for, and the Arrow type that it is kept in.

A cell that its type cannot hold (a MySQL zero date, PostgreSQL's infinity, an unsigned integer of
64 bits, a text in SQLite's integer column) is null, and stands as text in `_etl_ml_original`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from etl_ml.extract.source_error import SourceError
from etl_ml.lake.identity import ORIGINAL
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.engine import CursorResult

    Result = CursorResult[Any]

_SAMPLE = 1_000


@dataclass(frozen=True)
class SqlColumn:
    """A column.

    Attributes
    ----------
    ask : SQL that gives the cell, null where `kind` cannot hold it
    unfit : SQL that is true for such a cell, None where the reader itself finds it
    text : SQL that gives such a cell as text
    place : SQL whose value, written as a literal, compares as the column does
    """

    name: str
    kind: pa.DataType
    ask: str
    place: str
    unfit: str | None = None
    text: str | None = None


def mysql_columns(result: Result, quote: Callable[[str], str]) -> list[SqlColumn]:
    """From the answer's own description; sessions are in UTC."""
    import pyarrow as pa

    integers = {
        1: (pa.int8(), pa.int16()),
        2: (pa.int16(), pa.int32()),
        9: (pa.int32(), pa.int32()),
        3: (pa.int32(), pa.int64()),
        # An unsigned one above 2**63 is kept as it was: numbers are 64 bits everywhere behind.
        8: (pa.int64(), pa.int64()),
        13: (pa.int16(), pa.int16()),
    }
    moments = {
        7: pa.timestamp("us", "UTC"),
        12: pa.timestamp("us"),
        10: pa.date32(),
        14: pa.date32(),
    }
    found = []
    for field in result.cursor._result.fields:
        code, name = field.type_code, field.name
        cell = quote(name)
        unsigned = bool(field.flags & 32)
        text = f"CAST({cell} AS CHAR)"
        kind, ask, place, unfit = pa.string(), cell, cell, None
        if code in integers:
            kind = integers[code][unsigned]
        elif code == 4:
            kind, place = pa.float32(), f"({cell} + 0e0)"
        elif code == 5:
            kind = pa.float64()
        elif code in (0, 246):
            precision = field.length - (field.scale > 0) - (not unsigned)
            kind, ask = decimal(precision, field.scale), text
        elif code in moments:
            kind, unfit = moments[code], f"(DAYOFMONTH({cell}) = 0 OR MONTH({cell}) = 0)"
            ask = f"CASE WHEN {unfit} THEN NULL ELSE {cell} END"
        elif code == 16:
            kind, ask = pa.int64(), f"CAST({cell} AS UNSIGNED)"
            place = ask
        elif code in (15, 247, 248, 249, 250, 251, 252, 253, 254):
            kind = pa.binary() if field.charsetnr == 63 else pa.string()
        else:
            ask = f"ST_AsText({cell})" if code == 255 else text
        found.append(SqlColumn(name, kind, ask, place, unfit, text if unfit else None))
    return found


def postgres_columns(
    result: Result, quote: Callable[[str], str], arrays: Callable[[Sequence[int]], set[int]]
) -> list[SqlColumn]:
    """From the answer's own description; what Arrow and Delta Lake have no type for is text.

    Parameters
    ----------
    arrays : which of some types' numbers are arrays; these become JSON
    """
    import pyarrow as pa

    plain = {
        **{16: pa.bool_(), 17: pa.binary(), 18: pa.string(), 19: pa.string(), 25: pa.string()},
        **{20: pa.int64(), 21: pa.int16(), 23: pa.int32(), 26: pa.int64()},
        **{700: pa.float32(), 701: pa.float64(), 1042: pa.string(), 1043: pa.string()},
    }
    moments = {1082: pa.date32(), 1114: pa.timestamp("us"), 1184: pa.timestamp("us", "UTC")}
    fields: Any = result.cursor.description
    lists = arrays([f.type_code for f in fields if f.type_code not in plain])
    found = []
    for field in fields:
        code, cell = field.type_code, quote(field.name)
        kind, ask, place, unfit = pa.string(), cell, cell, None
        if code in (18, 19, 26):
            kind = plain[code]
            ask = f"CAST({cell} AS {'bigint' if code == 26 else 'text'})"
        elif code in plain:
            kind = plain[code]
            place = f"CAST({cell} AS double precision)" if code == 700 else cell
        elif code in moments:
            kind, unfit = moments[code], f"NOT isfinite({cell})"
            ask = f"CASE WHEN {unfit} THEN NULL ELSE {cell} END"
        else:
            ask = f"CAST({'to_json' if code in lists else ''}({cell}) AS text)"
            if code == 1700 and field.precision:
                kind = decimal(field.precision, field.scale or 0)
        text = f"CAST({cell} AS text)" if unfit else None
        found.append(SqlColumn(field.name, kind, ask, place, unfit, text))
    return found


def decimal(precision: int, scale: int) -> pa.DataType:
    """Text where Delta Lake has no decimal as long."""
    import pyarrow as pa

    fits = 1 <= precision <= 38 and 0 <= scale <= precision
    return pa.decimal128(precision, scale) if fits else pa.string()


def sampled_columns(
    result: Result, quote: Callable[[str], str], declared: dict[str, str]
) -> list[SqlColumn]:
    """By the first rows, for a database whose answers do not tell their types.

    Parameters
    ----------
    declared : SQLite's declared types by column; its cells may be of any type all the same
    """
    names = list(result.keys())
    rows = result.fetchmany(_SAMPLE)
    found = []
    for position, name in enumerate(names):
        kind = _affinity(declared.get(name, "")) or _common([row[position] for row in rows])
        found.append(SqlColumn(name, kind, quote(name), quote(name)))
    return found


def _affinity(declared: str) -> pa.DataType | None:
    """https://www.sqlite.org/datatype3.html, 3.1: rules in their order."""
    import pyarrow as pa

    kinds = {
        "INT": pa.int64(),
        **dict.fromkeys(("CHAR", "CLOB", "TEXT"), pa.string()),
        "BLOB": pa.binary(),
        **dict.fromkeys(("REAL", "FLOA", "DOUB"), pa.float64()),
        "BOOL": pa.int64(),
    }
    upper = declared.upper()
    found = next((kind for word, kind in kinds.items() if word in upper), None)
    # NUMERIC, DATE and the like hold integers, floats and texts side by side.
    return found or (pa.string() if upper else None)


def _common(values: Sequence[object]) -> pa.DataType:
    import pyarrow as pa

    types = {type(value) for value in values if value is not None}
    for allowed, kind in (
        ({bool}, pa.bool_()),
        ({int}, pa.int64()),
        ({int, float}, pa.float64()),
        ({bytes, memoryview, bytearray}, pa.binary()),
        ({date}, pa.date32()),
    ):
        if types and types <= allowed:
            return kind
    if types == {datetime}:
        aware = any(isinstance(v, datetime) and v.tzinfo for v in values)
        return pa.timestamp("us", "UTC" if aware else None)
    return pa.string()


class SqlTable:
    """Turns what a driver gives for `select` into batches of `schema`."""

    def __init__(self, columns: Sequence[SqlColumn], unfit: str | None) -> None:
        import pyarrow as pa

        self._columns = columns
        self._at = {column.name: at for at, column in enumerate(columns)}
        self.select = [column.ask for column in columns] + ([unfit] if unfit else [])
        self.names = [column.name for column in columns] + ([ORIGINAL] if unfit else [])
        fields = [pa.field(column.name, column.kind) for column in columns]
        self.schema = pa.schema([*fields, pa.field(ORIGINAL, pa.string())])

    def batch(self, columns: Sequence[pa.Array | Sequence[object]], rows: int) -> pa.RecordBatch:
        """Cells of one batch, column by column: Arrow arrays, or Python objects."""
        import pyarrow as pa

        unfit: dict[int, dict[str, object]] = {}
        arrays = []
        for column, cells in zip(self._columns, columns, strict=False):
            array, bad = _fitted(cells, column.kind)
            arrays.append(array)
            for row, cell in bad.items():
                unfit.setdefault(row, {})[column.name] = cell
        if len(columns) > len(self._columns):
            for row, text in _told(columns[-1]):
                cells = json.loads(text)
                nulls = {
                    name: cell
                    for name, cell in cells.items()
                    if cell is not None and not arrays[self._at[name]][row].is_valid
                }
                unfit[row] = {**nulls, **unfit.get(row, {})}
        originals: pa.Array = pa.nulls(rows, pa.string())
        if unfit:
            originals = pa.array(
                [
                    json.dumps(unfit[row], ensure_ascii=False) if row in unfit else None
                    for row in range(rows)
                ],
                pa.string(),
            )
        return pa.RecordBatch.from_arrays([*arrays, originals], schema=self.schema)


def _told(cells: pa.Array | Sequence[object]) -> list[tuple[int, str]]:
    """Rows and texts of those cells that are not null."""
    import pyarrow as pa

    if isinstance(cells, pa.Array) and cells.null_count == len(cells):
        return []
    values = cells.to_pylist() if isinstance(cells, pa.Array) else cells
    return [(row, str(value)) for row, value in enumerate(values) if value is not None]


def _fitted(
    cells: pa.Array | Sequence[object], kind: pa.DataType
) -> tuple[pa.Array, dict[int, object]]:
    """The cells in their type, and by row what does not fit."""
    import pyarrow as pa

    try:
        if isinstance(cells, pa.Array):
            return cells if cells.type == kind else cells.cast(kind), {}
        return pa.array(cells, kind), {}
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        found: list[object] = []
        bad: dict[int, object] = {}
        values = cells.to_pylist() if isinstance(cells, pa.Array) else cells
        for row, value in enumerate(values):
            cell = _cell(value, kind)
            if cell is None and value is not None:
                bad[row] = _text(value)
            found.append(cell)
        return pa.array(found, kind), bad


def _cell(value: object, kind: pa.DataType) -> object:
    import pyarrow as pa

    if pa.types.is_string(kind) and not isinstance(value, bytes | None):
        return _text(value)
    try:
        if isinstance(value, str) and pa.types.is_decimal(kind):
            return pa.scalar(value).cast(kind).as_py()
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return None


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat(" ")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def checked(columns: Sequence[SqlColumn], address: str) -> Sequence[SqlColumn]:
    """Refuse columns that cannot be told apart, or that have no usable name."""
    seen: dict[str, str] = {}
    for column in columns:
        lowered = column.name.lower()
        if not column.name.strip() or lowered in seen or lowered.startswith("_etl_ml_"):
            raise SourceError(
                f"{address}: column {bounded(column.name)} has no name, a reserved one, or that of "
                "another column but for case.",
                where="source.query",
                fix="name the columns apart with AS",
            )
        seen[lowered] = column.name
    return columns
