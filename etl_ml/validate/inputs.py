"""Rows that a model is asked about: their values in the contracted types, and what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import narwhals as nw
import polars as pl

from etl_ml.spec.contract import Column
from etl_ml.spec.error import EtlMlError, listed, nearest
from etl_ml.validate.casting import always_casts, cast, polars_type, present
from etl_ml.validate.rules import Rule, rules_of

_OF_NULLS = ("type", "nullable")


class MissingInputs(EtlMlError):
    """Rows without a column that the model needs."""


@dataclass(frozen=True)
class Inputs:
    """n rows as a model takes them.

    Attributes
    ----------
    values : frame of the columns, in order, in their types; null where a cell breaks its type
    good : boolean series (n,): the row keeps all rules
    reasons : series (n,) of text, `column: rule` with `; ` between; null for a good row
    """

    values: pl.DataFrame
    good: pl.Series
    reasons: pl.Series


@dataclass(frozen=True)
class Broken:
    """The first cell that breaks a rule: its row, its column, and the rule's name."""

    row: int
    column: str
    rule: str


def check_columns(names: Collection[str], columns: Collection[str], where: str) -> None:
    """Raise MissingInputs if a column is absent, with its nearest match; others do not matter."""
    missing = [name for name in columns if name not in names]
    if missing:
        close = nearest(missing[0], [name for name in names if name not in columns])
        raise MissingInputs(
            f"the rows have no column {listed(map(repr, missing))}.",
            seen=f"their columns are {listed(names)}",
            where=where,
            close=repr(close) if close else None,
            fix="give the columns that the model was trained on, by name",
        )


class InputRules:
    """The contract of a model's inputs; put together once for each set of types that rows have.

    Parameters
    ----------
    columns : the feature columns by name, with their types and limits
    null_values : texts that mean null
    """

    def __init__(self, columns: Mapping[str, Column], null_values: Collection[str] = ()) -> None:
        self._columns, self._nulls = columns, tuple(null_values)
        self._plan = lru_cache(maxsize=16)(self._plan_of)

    def check(self, rows: pl.DataFrame) -> Inputs:
        """Cast and check n rows with the columns by name, in any types; none is dropped."""
        plan, checked, good = self._checked(rows)
        reasons = pl.Series("reasons", [None] * len(rows), pl.String)
        if not good.all():
            flagged = nw.from_native(checked).select(*plan.flags).to_native()
            said = [pl.when(pl.col(rule.flag)).then(pl.lit(rule.reason)) for rule in plan.rules]
            reasons = flagged.select(
                pl.when(~good).then(pl.concat_str(said, separator="; ", ignore_nulls=True))
            ).to_series()
        return Inputs(checked.select(list(self._columns)), good, reasons.alias("reasons"))

    def values(self, rows: pl.DataFrame) -> pl.DataFrame | Broken:
        """The values of rows that all keep the rules, else the first rule that is broken."""
        plan = self._plan(tuple(rows.schema[name] for name in self._columns))
        values = rows.select(plan.expressions[::2])
        if self._all_keep(rows, values, plan):
            return values
        plan, checked, good = self._checked(rows)
        if good.all():  # what was null without a null: NaN, or text that means it
            return values
        place = int(good.arg_min() or 0)
        flagged = nw.from_native(checked[place]).select(*plan.flags).to_native().row(0)
        rule = next(rule for rule, broken in zip(plan.rules, flagged, strict=True) if broken)
        return Broken(place, rule.column or "", rule.name)

    def _all_keep(self, rows: pl.DataFrame, values: pl.DataFrame, plan: _Plan) -> bool:
        """Whether rows surely keep all rules, by a few numbers for all of them."""
        for name, column in self._columns.items():
            nulls = values[name].null_count()
            if nulls > (rows[name].null_count() if column.nullable else 0):
                return False
        if plan.limits is None:
            return True
        return not nw.from_native(values).select(plan.limits.any()).item()

    def _checked(self, rows: pl.DataFrame) -> tuple[_Plan, pl.DataFrame, pl.Series]:
        plan = self._plan(tuple(rows.schema[name] for name in self._columns))
        checked = rows.select(plan.expressions)
        good = nw.from_native(checked).select(plan.good).to_native()["good"]
        if len(good) != len(rows):  # of no column at all, a literal is one row
            good = pl.repeat(True, len(rows), eager=True)
        return plan, checked, good

    def _plan_of(self, types: tuple[pl.DataType, ...]) -> _Plan:
        expressions: list[pl.Expr] = []
        rules: list[Rule] = []
        for (name, column), source in zip(self._columns.items(), types, strict=True):
            content, there = present(pl.col(name), source, self._nulls)
            value = cast(content, source, column).cast(polars_type(column.type))
            expressions += [value.alias(name), there.alias(f"_present {name}")]
            rules += rules_of(
                name,
                column,
                value=name,
                present=f"_present {name}",
                required=not column.nullable,
                repeated=None,
                casts=always_casts(source, column),
            )
        broken = [rule.breaks for rule in rules if rule.breaks is not None]
        limits = [r.breaks for r in rules if r.breaks is not None and r.name not in _OF_NULLS]
        bad = nw.any_horizontal(*broken, ignore_nulls=True) if broken else nw.lit(False)
        flags = [rule.broken.alias(rule.flag) for rule in rules]
        beyond = nw.any_horizontal(*limits, ignore_nulls=True) if limits else None
        return _Plan(expressions, rules, flags, (~bad).alias("good"), beyond)


@dataclass(frozen=True)
class _Plan:
    """Value and presence of each column in turn, the rules, where each is broken, where none is,
    and where one is that looks at the value.
    """

    expressions: list[pl.Expr]
    rules: list[Rule]
    flags: list[nw.Expr]
    good: nw.Expr
    limits: nw.Expr | None


def check_inputs(
    rows: pl.DataFrame, columns: Mapping[str, Column], null_values: Collection[str] = ()
) -> Inputs:
    """Cast and check rows; see `InputRules`."""
    return InputRules(columns, null_values).check(rows)
