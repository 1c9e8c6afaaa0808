"""Rules between columns mean the same to Polars, to pandas, and to SQL's three values."""

from __future__ import annotations

import operator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import narwhals as nw
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.spec.expression import (
    Both,
    Compare,
    Constant,
    IsNull,
    Name,
    Not,
    OneOf,
    parse_rule,
)
from etl_ml.validate import validate
from etl_ml.validate.conditions import breaks
from etl_ml_tests.validate.rows import checked, pipeline_of, rows_of

COLUMNS = {
    "a": "integer",
    "b": "float",
    "s": "string",
    "t": "category",
    "ok": "boolean",
    "d": "date",
    "m": "datetime",
}
ROWS: dict[str, list[Any]] = {
    "a": [1, 2, None, -3, 2**40, 0, 5],
    "b": [1.0, None, 2.5, -3.0, 0.0, 0.0, 1e15],
    "s": ["x", "Y", None, "", "é", "xy", "x"],
    "t": ["x", None, "y", "y", "é", "x", "Y"],
    "ok": [True, False, None, True, None, False, True],
    "d": [date(2020, 1, 1), None, *(date(2020, 1, day) for day in (2, 3, 4, 5, 6))],
    "m": [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=13 * i) for i in range(6)] + [None],
}
POLARS = pl.DataFrame(ROWS, schema_overrides={"m": pl.Datetime("us", "UTC")})
RULES = [
    "a > b",
    "a >= 2 and b < 3",
    "a >= 2 or b < 3",
    "not (a >= 2 or b < 3)",
    "a + 1 > b * 2",
    "a / b > 0",
    "-a <= abs(b)",
    "a * a >= 0",
    "s == t",
    "s != 'x'",
    "lower(s) == lower(t)",
    "length(s) between 1 and 1",
    "s in ('x', 'y') or t in ('x')",
    "s not in ('x')",
    "ok",
    "ok == true and a > 0",
    "not ok",
    "d <= '2020-01-03'",
    "d in ('2020-01-03', '2020-01-05')",
    "m > d",
    "m >= '2020-01-01T14:00+01:00'",
    "m is null or a is not null",
    "b is null",
    "a not between -3 and 1",
]


def value(part: Any, row: dict[str, Any]) -> Any:
    """An operand, by Python itself; None is unknown."""
    if isinstance(part, Name):
        return row[part.name]
    if isinstance(part, Constant):
        return part.value
    inner = [value(operand, row) for operand in part.operands]
    if None in inner:
        return None
    texts = {"length": len, "lower": str.lower, "upper": str.upper}
    if part.function in texts:
        return texts[part.function](inner[0])
    numbers = [float(number) for number in inner]
    if part.function == "abs":
        return abs(numbers[0])
    if part.function == "/":
        return numbers[0] / numbers[1] if numbers[1] else None
    return {"+": operator.add, "-": operator.sub, "*": operator.mul}[part.function](*numbers)


COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def moment(found: Any) -> Any:
    if isinstance(found, date) and not isinstance(found, datetime):
        return datetime(found.year, found.month, found.day, tzinfo=UTC)
    return found


def outcome(rule: Any, row: dict[str, Any]) -> bool | None:
    """A condition, by Kleene's three values."""
    if isinstance(rule, Not):
        inner = outcome(rule.operand, row)
        return None if inner is None else not inner
    if isinstance(rule, Both):
        inner_all = [outcome(operand, row) for operand in rule.operands]
        decisive = rule.operator == "or"
        if decisive in inner_all:
            return decisive
        return None if None in inner_all else not decisive
    if isinstance(rule, IsNull):
        return value(rule.operand, row) is None
    if isinstance(rule, Name):
        return row[rule.name]  # type: ignore[no-any-return]
    left = moment(value(rule.left if isinstance(rule, Compare) else rule.operand, row))
    if isinstance(rule, OneOf):
        return None if left is None else left in rule.values
    right = moment(value(rule.right, row))
    return None if None in (left, right) else bool(COMPARE[rule.operator](left, right))


def broken(frame: Any, rule: str) -> list[bool]:
    expression = breaks(parse_rule(rule, COLUMNS), lambda name: name)
    found = nw.from_native(frame).with_columns(expression.alias("broken"))["broken"]
    assert found.null_count() == 0
    return [bool(flag) for flag in found.to_list()]


@pytest.mark.parametrize("rule", RULES)
def test_a_row_breaks_a_rule_that_is_false_and_not_one_that_is_unknown(rule: str) -> None:
    expected = [outcome(parse_rule(rule, COLUMNS), row) is False for row in POLARS.to_dicts()]
    assert broken(POLARS, rule) == expected
    lazy = nw.from_native(POLARS.lazy()).select(
        breaks(parse_rule(rule, COLUMNS), lambda name: name).alias("x")
    )
    assert lazy.collect().to_native()["x"].to_list() == expected
    assert broken(POLARS.to_pandas(use_pyarrow_extension_array=True), rule) == expected
    assert (
        broken(pd.DataFrame(ROWS).convert_dtypes(), rule) == expected if "d" not in rule else True
    )


OPERANDS = st.sampled_from(["a", "b", "1", "-2.5", "abs(a)", "a + b", "b / a", "a * 2 - b"])
TEXTS = st.sampled_from(["s", "t", "'x'", "lower(s)", "upper(t)"])
SIMPLE = (
    st.builds("{} {} {}".format, OPERANDS, st.sampled_from([*COMPARE]), OPERANDS)
    | st.builds("{} {} {}".format, TEXTS, st.sampled_from([*COMPARE]), TEXTS)
    | st.sampled_from(["ok", "a is null", "b is not null", "s in ('x','y')", "a between 0 and 3"])
)
CONDITIONS = st.recursive(
    SIMPLE,
    lambda inner: (
        st.builds("({} and {})".format, inner, inner)
        | st.builds("({} or {})".format, inner, inner)
        | st.builds("not ({})".format, inner)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(CONDITIONS)
def test_any_rule_means_what_three_valued_logic_says(rule: str) -> None:
    try:
        parsed = parse_rule(rule, COLUMNS)
    except ValueError:
        return  # constants alone, or the same on both sides
    expected = [outcome(parsed, row) is False for row in POLARS.to_dicts()]
    assert broken(POLARS, rule) == expected
    assert broken(POLARS.to_pandas(use_pyarrow_extension_array=True), rule) == expected


def test_rows_that_break_a_rule_are_quarantined_with_the_rule_as_it_was_written() -> None:
    pipeline = pipeline_of({"low": {"type": "float"}, "high": {"type": "float"}})
    ruled = pipeline.model_copy(
        update={"contract": pipeline.contract.model_copy(update={"rules": ("low <= high",)})}
    )
    rows = rows_of(low=["1", "5", "", "x", "2"], high=["2", "4", "1", "1", "2.0"])
    result, reasons = checked(rows, ruled)
    assert reasons == {"0001": ["rules: low <= high"], "0003": ["low: type"]}
    told = next(c for c in result.report["checks"] if c["name"] == "low <= high")
    assert (told["column"], told["failed_rows"]) == (None, 1)
    assert told["examples"] == ["low 5.0, high 4.0"]
    assert not validate(rows_of(low=["1"], high=["2"]), ruled).quarantined.collect().height


def test_the_examples_of_a_rule_hold_no_sensitive_value() -> None:
    columns = {"low": {"type": "integer", "sensitive": True}, "high": {"type": "integer"}}
    pipeline = pipeline_of(columns)
    contract = pipeline.contract.model_copy(update={"rules": ("low <= high", "low > 9")})
    ruled = pipeline.model_copy(update={"contract": contract})
    report = checked(rows_of(low=["7"], high=["3"]), ruled)[0].report
    examples = {c["name"]: c["examples"] for c in report["checks"] if c["failed_rows"]}
    assert examples == {"low <= high": ["high 3"], "low > 9": []}
