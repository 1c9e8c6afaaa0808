"""Rows in their contracted types, every rule kept; the one place that says what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import polars as pl

from etl_ml.serve.refused import Refused
from etl_ml.spec.contract import MOMENTS, TEXTS, Column
from etl_ml.spec.error import bounded, listed
from etl_ml.validate.casting import polars_type
from etl_ml.validate.inputs import Broken, InputRules

if TYPE_CHECKING:
    from etl_ml.serve.rows import Rows

_LEAST, _MOST, _LARGEST = -(2**63), 2**63 - 1, 2**64
_LIMITED = ("integer", "float", "boolean")
# JSON has its own types, and here text is not a number: what a value is does not depend on how it
# looks. A boolean may come as 0 or 1, as CSV and databases have it.
NATIVE: dict[str, frozenset[type]] = {
    "integer": frozenset({int, float}),
    "float": frozenset({int, float}),
    "boolean": frozenset({bool, int}),
    **dict.fromkeys((*TEXTS, *MOMENTS), frozenset({str})),
}
_EXPECTED = {
    "integer": "a whole number of 64 bits",
    "float": "a number",
    "boolean": "true or false",
    "string": "text",
    "category": "text",
    "datetime": "a date and time as in ISO 8601, 2026-11-23T09:30:00Z",
    "date": "a date as in ISO 8601, 2026-11-23",
}


class Checker:
    """The contract of a model's inputs.

    Parameters
    ----------
    inputs : the rules of each column, in the model's order
    null_values : texts that mean null
    """

    def __init__(self, inputs: Mapping[str, Column], null_values: Collection[str] = ()) -> None:
        self._inputs = inputs
        self._rules = InputRules(inputs, null_values)

    def frame(self, rows: Rows) -> pl.DataFrame:
        """The inputs in their contracted types, in the model's order.

        Raises
        ------
        Refused
            A cell breaks a rule; says which cell and which rule.
        """
        found = self._rules.values(pl.DataFrame([self._series(n, rows) for n in self._inputs]))
        if isinstance(found, Broken):
            self._refuse(found.column, found.rule, found.row, rows)
        return found

    def _series(self, name: str, rows: Rows) -> pl.Series:
        cells = rows.columns[name]
        if isinstance(cells, pl.Series):
            if cells.dtype.is_nested() or cells.dtype in (pl.Binary, pl.Object, pl.Null):
                if cells.null_count() < len(cells):
                    self._refuse(name, "type", int(cells.is_not_null().arg_max() or 0), rows)
                return pl.Series(name, [None] * rows.count, polars_type(self._inputs[name].type))
            if cells.dtype in (pl.Categorical, pl.Enum):
                cells = cells.cast(pl.String)
            return cells.alias(name)
        if rows.text:
            return pl.Series(name, cells, pl.String)
        return self._native(name, cells, rows)

    def _native(self, name: str, cells: list[Any], rows: Rows) -> pl.Series:
        """A column of JSON's types."""
        kind = self._inputs[name].type
        kinds = set(map(type, cells)) - {type(None)}
        if not kinds <= NATIVE[kind] or (kind in _LIMITED and int in kinds) or kind == "integer":
            for place, cell in enumerate(cells):
                if cell is not None and not _is_native(kind, cell):
                    self._refuse(name, "type", place, rows)
        if kind == "integer" and float in kinds:
            cells = [int(cell) if type(cell) is float else cell for cell in cells]
        if kind == "boolean":
            cells = [None if cell is None else bool(cell) for cell in cells]
        return pl.Series(
            name, cells, polars_type(kind) if kind in _LIMITED else pl.String, strict=False
        )

    def _refuse(self, name: str, rule: str, place: int, rows: Rows) -> NoReturn:
        column = self._inputs[name]
        where, expected = f"row {place}, column {name!r}", expectation(column, rule)
        value = None
        if rule == "nullable":
            what = f"{where} is null, which it may not be."
        elif column.sensitive:
            what = f"{where}: the value is not {expected}."
        else:
            value = bounded(rows.columns[name][place])
            what = f"{where}: {value} is not {expected}."
        raise Refused(
            what,
            reason=rule,
            row=place,
            column=name,
            value=value,
            expected=expected,
        )


def expectation(column: Column, rule: str) -> str:
    """What a rule expects, in words; of a sensitive column no value."""
    if rule in ("type", "nullable"):
        return _EXPECTED[column.type]
    if rule == "pattern":
        return f"text that matches {bounded(column.pattern)}"
    if rule == "max_length":
        return f"text of up to {column.max_length} characters"
    if column.sensitive:
        return f"within what `{rule}` of its contract allows"
    if rule == "allowed":
        return f"one of {listed(map(_said, column.allowed or ()))}"
    return f"{'at least' if rule == 'min' else 'at most'} {_said(getattr(column, rule))}"


def _said(value: object) -> str:
    return repr(value) if isinstance(value, bool | int | float | str) else str(value)


def _is_native(kind: str, cell: Any) -> bool:
    """Whether a cell of JSON is a value of a type."""
    if type(cell) not in NATIVE[kind]:
        return False
    if kind == "integer":
        return _LEAST <= cell <= _MOST and (type(cell) is int or cell.is_integer())
    if kind == "boolean":
        return cell in (0, 1)
    return type(cell) is not int or abs(cell) <= _LARGEST
