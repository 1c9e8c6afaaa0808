"""The contract's row rules as Narwhals expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from etl_ml.spec.expression import (
    Both,
    Compare,
    Condition,
    Constant,
    IsNull,
    Name,
    Not,
    OneOf,
    Operand,
)

if TYPE_CHECKING:
    import narwhals as nw

Outcome = tuple["nw.Expr", "nw.Expr"]


def breaks(rule: Condition, column: Callable[[str], str]) -> nw.Expr:
    """Where a row breaks a rule: it is false there, and not unknown for want of a value.

    Parameters
    ----------
    column : from a contracted column to the one that holds its cast values
    """
    return _outcome(rule, column)[1]


def _outcome(rule: Condition, column: Callable[[str], str]) -> Outcome:
    """Where a condition is true, and where it is false; neither is null.

    Dataframe engines differ in what null is in a boolean column, so none is left to them. The three
    values are SQL's (Kleene): a comparison with null is unknown.
    """
    import narwhals as nw

    if isinstance(rule, Not):
        true, false = _outcome(rule.operand, column)
        return false, true
    if isinstance(rule, Both):
        sides = [_outcome(operand, column) for operand in rule.operands]
        trues, falses = [true for true, _ in sides], [false for _, false in sides]
        every, some = nw.all_horizontal, nw.any_horizontal
        if rule.operator == "and":
            return every(*trues, ignore_nulls=True), some(*falses, ignore_nulls=True)
        return some(*trues, ignore_nulls=True), every(*falses, ignore_nulls=True)
    if isinstance(rule, IsNull):
        missing = _value(rule.operand, column).is_null()
        return missing, ~missing
    if isinstance(rule, Compare):
        left, right = (_value(side, column) for side in (rule.left, rule.right))
        if "datetime" in (rule.left.kind, rule.right.kind):
            left, right = _moment(rule.left, left), _moment(rule.right, right)
        known = ~left.is_null() & ~right.is_null()
        holds = _compared(rule.operator, left, right)
    elif isinstance(rule, OneOf):
        value = _value(rule.operand, column)
        if rule.operand.kind == "date":
            value = _moment(rule.operand, value)
        known, holds = ~value.is_null(), value.is_in(list(rule.values))
    else:
        value = nw.col(column(rule.name))
        known, holds = ~value.is_null(), value
    holds = holds.fill_null(False)
    return known & holds, known & ~holds


def _compared(operator: str, left: nw.Expr, right: nw.Expr) -> nw.Expr:
    if operator == "==":
        return left == right
    if operator == "!=":
        return left != right
    if operator == "<":
        return left < right
    if operator == "<=":
        return left <= right
    return left > right if operator == ">" else left >= right


def _moment(operand: Operand, value: nw.Expr) -> nw.Expr:
    """A date as midnight UTC."""
    import narwhals as nw

    if operand.kind != "date":
        return value
    return value.cast(nw.Datetime("us")).dt.replace_time_zone("UTC")


def _value(operand: Operand, column: Callable[[str], str]) -> nw.Expr:
    import narwhals as nw

    if isinstance(operand, Name):
        return nw.col(column(operand.name))
    if isinstance(operand, Constant):
        return nw.lit(operand.value)
    values = [_value(inner, column) for inner in operand.operands]
    if operand.function == "length":
        return values[0].str.len_chars()
    if operand.function == "lower":
        return values[0].str.to_lowercase()
    if operand.function == "upper":
        return values[0].str.to_uppercase()
    # In floats: integers of 64 bits would wrap without a word.
    numbers = [value.cast(nw.Float64()) for value in values]
    if operand.function == "abs":
        return numbers[0].abs()
    left, right = numbers
    if operand.function == "+":
        return left + right
    if operand.function == "-":
        return left - right
    if operand.function == "*":
        return left * right
    return nw.when(right != 0).then(left / right)
