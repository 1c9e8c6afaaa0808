"""Rows that are Python objects, read from JSON or alike, as Arrow batches of text."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.lake.identity import ORIGINAL
from etl_ml.spec.contract import Contract

if TYPE_CHECKING:
    import pyarrow as pa

_MISSING = object()
_PLAIN = 60  # digits before a Decimal is written with an exponent
_INEXACT = {float, dict, list}


class Number(str):
    """A JSON number that is not an integer, as it was written."""


def parse_json(text: str | bytes) -> Any:
    """JSON whose numbers keep all their digits.

    Raises
    ------
    ValueError
        It is not JSON.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        return json.loads(text, parse_float=Number, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def to_json(value: Any) -> str:
    """JSON with exact numbers; bytes as base64, sets as arrays in order."""
    try:
        return _encoded(value)
    except RecursionError:  # some hundred levels: the library's encoder goes deeper
        return json.dumps(value, default=str, ensure_ascii=False)


def _encoded(value: Any) -> str:
    if isinstance(value, str) and not isinstance(value, Number):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(str(k), ensure_ascii=False)}: {_encoded(value[k])}" for k in value)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, set | frozenset):
        return "[" + ", ".join(sorted(map(_encoded, value))) + "]"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_encoded, value)) + "]"
    text = to_text(value)
    if text is None:
        return "null"
    return text if isinstance(value, bool | int | float | Decimal | str) else json.dumps(text)


def to_text(value: Any) -> str | None:
    """One cell: numbers as their exact text, objects and arrays as their JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f") if abs(value.adjusted()) < _PLAIN else str(value)
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return to_json(value)
    return str(value)


class Documents:
    """Rows to batches: a text column for each contracted one, and the row where none can hold it.

    A dotted name reaches into nested objects; a field of that very name wins. With
    `unknown_columns: fail`, a row with a field that no column names keeps its whole JSON in
    `_etl_ml_original`; so does what is no object.
    """

    def __init__(self, contract: Contract) -> None:
        import pyarrow as pa

        self._kinds = {name: column.type for name, column in contract.columns.items()}
        names = tuple(self._kinds)
        self._fails = contract.unknown_columns == "fail"
        self._known = {*names, *(name.partition(".")[0] for name in names)}
        self.schema = pa.schema([(name, pa.string()) for name in (*names, ORIGINAL)])

    def batch(
        self,
        rows: Sequence[Any],
        *,
        exact: Callable[[int], Any] | None = None,
        original: Callable[[int], str] | None = None,
    ) -> pa.RecordBatch:
        """The rows in their order.

        Parameters
        ----------
        exact : gives a row again with its numbers as they were written, where `rows` have floats
        original : gives the JSON that is kept of a row, by default that of `rows`
        """
        import pyarrow as pa

        kept = {at for at, row in enumerate(rows) if not isinstance(row, dict)}
        found = [{} if at in kept else row for at, row in enumerate(rows)] if kept else rows
        if self._fails:
            known = self._known
            kept.update(at for at, row in enumerate(found) if not row.keys() <= known)
        columns = []
        for name, kind in self._kinds.items():
            reach: Callable[..., Any] = _reach if "." in name else dict.get
            try:
                cells = [row[name] for row in found]
            except KeyError:
                cells = [reach(row, name) for row in found]
            types = set(map(type, cells)) - {type(None)}
            rounded = types & _INEXACT - ({float} if kind == "float" else set())
            if exact is not None and rounded:
                for at, cell in enumerate(cells):
                    if type(cell) in rounded and _has_float(cell):
                        cells[at] = reach(exact(at), name)
                types = set(map(type, cells)) - {type(None)}
            columns.append(self._column(cells, types, kept))
        text = original or (lambda at: to_json(rows[at]))
        originals = (
            [None] * len(rows)
            if not kept
            else [_storable(text(at)) if at in kept else None for at in range(len(rows))]
        )
        columns.append(pa.array(originals, pa.string()))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    @staticmethod
    def _column(cells: list[Any], types: set[type], kept: set[int]) -> pa.Array:
        import pyarrow as pa

        try:
            if types <= {str, Number}:
                return pa.array(cells, pa.string())
            if types == {int}:
                return pa.array(cells, pa.int64()).cast(pa.string())
            if types == {float}:
                return pa.array(cells, pa.float64(), from_pandas=True).cast(pa.string())
            if types == {bool}:
                return pa.array(cells, pa.bool_()).cast(pa.string())
        except (OverflowError, pa.ArrowInvalid, UnicodeEncodeError):
            pass
        texts = [to_text(cell) for cell in cells]
        try:
            return pa.array(texts, pa.string())
        except UnicodeEncodeError:
            # Half of a surrogate pair is JSON, but no text.
            for at, text in enumerate(texts):
                if text is not None and _storable(text) != text:
                    kept.add(at)
                    texts[at] = None
            return pa.array(texts, pa.string())


def _has_float(cell: Any) -> bool:
    if isinstance(cell, dict):
        return any(map(_has_float, cell.values()))
    return any(map(_has_float, cell)) if isinstance(cell, list) else type(cell) is float


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _reach(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name, _MISSING)
    if value is not _MISSING:
        return value
    head, dot, rest = name.partition(".")
    while dot:
        inner = row.get(head)
        if isinstance(inner, Mapping) and (found := _reach(inner, rest)) is not None:
            return found
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return None
