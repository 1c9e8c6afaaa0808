"""Rows in their contracted types, every rule kept; the one place that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import polars as pl

from etl_ml.serve.refused import Refused
from etl_ml.spec.contract import MOMENTS, TEXTS, Column
from etl_ml.spec.error import bounded, listed
from etl_ml.validate.casting import cast, polars_type, present
from etl_ml.validate.rules import Rule, rules_of

if TYPE_CHECKING:
    from etl_ml.serve.rows import Rows

_LEAST, _MOST = -(2**63), 2**63 - 1
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
    """The contract of a model's inputs, in columns."""

    def __init__(self, inputs: Mapping[str, Column]) -> None:
        self._inputs = inputs
        self._casts = lru_cache(maxsize=16)(self._cast_all)

    def frame(self, rows: Rows) -> pl.DataFrame:
        """The inputs in their contracted types, in the model's order.

        Raises
        ------
        Refused
            A cell breaks a rule; says which cell and which rule.
        """
        raw = pl.DataFrame([self._series(name, rows) for name in self._inputs])
        values = raw.select(self._casts(tuple(raw.dtypes)))
        for name, column in self._inputs.items():
            nulls = values[name].null_count()
            if nulls > raw[name].null_count():
                _, there = present(pl.col(name), raw.schema[name], ())
                lost = raw.select(there).to_series() & values[name].is_null()
                if lost.any():
                    self._refuse(name, "type", lost, rows)
            if nulls and not column.nullable:
                self._refuse(name, "nullable", values[name].is_null(), rows)
        self._check_rules(values, rows)
        return values

    def _cast_all(self, dtypes: tuple[pl.DataType, ...]) -> list[pl.Expr]:
        expressions = []
        for (name, column), source in zip(self._inputs.items(), dtypes, strict=True):
            content, _ = present(pl.col(name), source, ())
            typed = cast(content, source, column).cast(polars_type(column.type))
            expressions.append(typed.alias(name))
        return expressions

    def _series(self, name: str, rows: Rows) -> pl.Series:
        cells = rows.columns[name]
        if isinstance(cells, pl.Series):
            if cells.dtype.is_nested() or cells.dtype in (pl.Binary, pl.Object, pl.Null):
                if cells.null_count() < len(cells):
                    self._refuse(name, "type", cells.is_not_null(), rows)
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
        if not kinds <= NATIVE[kind]:
            self._refuse(name, "type", [type(c) not in NATIVE[kind] for c in cells], rows)
        if kind == "float":
            wrong = [type(c) is int and abs(c) > 2**64 for c in cells] if int in kinds else []
            if any(wrong):  # JSON has none of these: they are read as floats
                self._refuse(name, "type", wrong, rows)
            return pl.Series(name, cells, pl.Float64, strict=False)
        if kind == "integer":
            whole = [int(c) if _is_whole(c) else c for c in cells] if float in kinds else cells
            wrong = [c is not None and not (type(c) is int and _LEAST <= c <= _MOST) for c in whole]
            if any(wrong):
                self._refuse(name, "type", wrong, rows)
            return pl.Series(name, whole, pl.Int64)
        if kind == "boolean":
            wrong = [c is not None and c not in (0, 1) for c in cells]
            if any(wrong):
                self._refuse(name, "type", wrong, rows)
            return pl.Series(name, [None if c is None else bool(c) for c in cells], pl.Boolean)
        return pl.Series(name, cells, pl.String)

    def _check_rules(self, values: pl.DataFrame, rows: Rows) -> None:
        import narwhals as nw

        if not self._rules:
            return
        frame = nw.from_native(values)
        broken = frame.select(**{str(i): e.any() for i, (_, e) in enumerate(self._rules)}).row(0)
        for (rule, expression), found in zip(self._rules, broken, strict=True):
            if found:
                cells = frame.select(expression.alias("broken")).to_native()["broken"]
                self._refuse(rule.column or "", rule.name, cells, rows)

    @cached_property
    def _rules(self) -> list[tuple[Rule, Any]]:
        """The rules that a typed cell can break, and where one does; nulls break none."""
        return [
            (rule, rule.breaks.fill_null(False))
            for name, column in self._inputs.items()
            for rule in rules_of(
                name, column, value=name, present=name, required=False, repeated=None, casts=True
            )
            if rule.breaks is not None
        ]

    def _refuse(self, name: str, rule: str, broken: Any, rows: Rows) -> NoReturn:
        column = self._inputs[name]
        place = int(pl.Series(broken).arg_max() or 0)
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


def _is_whole(cell: Any) -> bool:
    return type(cell) is float and cell.is_integer() and _LEAST <= cell <= _MOST
