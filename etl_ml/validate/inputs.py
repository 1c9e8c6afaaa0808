"""Rows that a model is asked about: their values in the contracted types, and what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import narwhals as nw
import polars as pl

from etl_ml.spec.contract import Column
from etl_ml.spec.error import EtlMlError, listed, nearest
from etl_ml.validate.casting import always_casts, cast, polars_type, present
from etl_ml.validate.rules import Rule, rules_of


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


def check_inputs(
    rows: pl.DataFrame, columns: Mapping[str, Column], null_values: Collection[str] = ()
) -> Inputs:
    """Cast and check rows; none is dropped.

    Parameters
    ----------
    rows : frame of n rows with the columns by name, in any types
    null_values : texts that mean null
    """
    expressions: list[pl.Expr] = []
    rules: list[Rule] = []
    for name, column in columns.items():
        source = rows.schema[name]
        content, there = present(pl.col(name), source, null_values)
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
    checked = rows.select(expressions)
    broken = [rule.breaks for rule in rules if rule.breaks is not None]
    bad = nw.any_horizontal(*broken, ignore_nulls=True) if broken else nw.lit(False)
    good = nw.from_native(checked).select((~bad).alias("good")).to_native()["good"]
    if len(good) != len(rows):  # of no column at all, a literal is one row
        good = pl.repeat(True, len(rows), eager=True)
    reasons = pl.Series("reasons", [None] * len(rows), pl.String)
    if not good.all():
        flags = [rule.broken.alias(rule.flag) for rule in rules]
        flagged = nw.from_native(checked).select(*flags).to_native()
        said = [pl.when(pl.col(rule.flag)).then(pl.lit(rule.reason)) for rule in rules]
        reasons = flagged.select(
            pl.when(~good).then(pl.concat_str(said, separator="; ", ignore_nulls=True))
        ).to_series()
    return Inputs(checked.select(list(columns)), good, reasons.alias("reasons"))
