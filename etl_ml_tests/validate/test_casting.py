"""Casting is exact, or there is no value."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.spec import Column
from etl_ml.validate.casting import cast, polars_type, present


def casted(values: list[Any], kind: Any, dtype: Any = None) -> list[Any]:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=dtype)})
    content, _ = present(pl.col("x"), frame.schema["x"], ["NA"])
    found = frame.select(cast(content, frame.schema["x"], Column(type=kind)).alias("v"))["v"]
    assert found.dtype in (polars_type(kind), pl.Null)
    return found.to_list()


def one(value: Any, kind: Any, dtype: Any = None) -> Any:
    return casted([value], kind, dtype)[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.0", 1),
        ("1.", 1),
        ("1e3", 1000),
        ("1.5e1", 15),
        ("10e-1", 1),
        ("-3.00", -3),
        (" 7 ", 7),
        ("+5", 5),
        ("007", 7),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9007199254740993.0", 2**53 + 1),
        ("9223372036854775808", None),
        ("1e25", None),
        ("3.7", None),
        ("5e-1", None),
        ("0.99999999999999999999", None),
        ("1e-400", None),
        ("1_000", None),
        ("1,000", None),
        ("0x10", None),
        ("abc", None),
        ("nan", None),
        ("true", None),
    ],
)
def test_text_is_an_integer_exactly_or_not_at_all(text: str, value: int | None) -> None:
    assert one(text, "integer") == value


@settings(max_examples=80, deadline=None)
@given(st.from_regex(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True))
def test_an_integer_from_text_is_the_number_that_was_written(text: str) -> None:
    value = one(text, "integer")
    written = Decimal(text)
    fits = written == written.to_integral_value() and -(2**63) <= written < 2**63
    assert value is None or value == written
    if fits and "e" not in text.lower():
        assert value == written


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-0", 0.0),
        ("1e400", None),
        ("inf", None),
        ("-inf", None),
        ("NaN", None),
        ("1,5", None),
        ("x", None),
    ],
)
def test_text_is_a_finite_float_or_not_at_all(text: str, value: float | None) -> None:
    assert one(text, "float") == value


def test_floats_are_integers_only_where_they_are_whole_and_fit() -> None:
    values = [1.0, 3.7, 1e300, math.inf, -math.inf, 2.0**63, -(2.0**63), 2.0**53 + 2]
    assert casted(values, "integer") == [1, None, None, None, None, None, -(2**63), 2**53 + 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_are_floats_only_where_they_come_back(value: int) -> None:
    assert one(value, "float", pl.Int64) == (float(value) if int(float(value)) == value else None)


def test_integers_beyond_2_to_53_and_infinities_are_no_floats() -> None:
    assert casted([2**53, 2**53 + 1, 2**63 - 1], "float") == [2.0**53, None, None]
    assert casted([1.5, math.inf, -math.inf], "float") == [1.5, None, None]


def test_nan_is_null_and_not_a_failed_cast() -> None:
    frame = pl.DataFrame({"x": [math.nan, 1.0]})
    _, there = present(pl.col("x"), frame.schema["x"], [])
    assert frame.select(there).to_series().to_list() == [False, True]


def test_text_is_trimmed_and_null_values_are_no_values() -> None:
    frame = pl.DataFrame({"x": ["", "  ", " NA ", "NAN", None, " a "]})
    content, there = present(pl.col("x"), frame.schema["x"], ["NA"])
    found = frame.select(content.alias("c"), there.alias("t"))
    assert found["c"].to_list() == [None, None, None, "NAN", None, "a"]
    assert found["t"].to_list() == [False, False, False, True, False, True]


def test_booleans() -> None:
    yes, no = ["true", "T", "YES", "1"], ["false", "F", "No", "0"]
    assert casted([*yes, *no], "boolean") == [True] * 4 + [False] * 4
    assert casted(["2", "on", "1.0"], "boolean") == [None] * 3
    assert casted([0, 1, 2], "boolean") == [False, True, None]
    assert casted([0.0, 1.0, 0.5], "boolean") == [False, True, None]
    assert casted([True, False], "boolean") == [True, False]
    assert casted([True, False], "integer") == [1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "2021-02-29",
        "2021-13-01",
        "2021-04-31",
        "2021-00-10",
        "2021-1-5",
        "21-01-05",
        "20210105",
        "2021-01-05x",
        "10000-01-01",
        "-001-01-01",
        "05/01/2021",
        "2021-01-05 24:00:00",
        "2021-01-05 23:59:60",
        "noon",
    ],
)
def test_dates_that_do_not_exist_or_are_not_iso_are_none(text: str) -> None:
    assert one(text, "date") is None
    assert one(text, "datetime") is None


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
)
def test_moments_in_any_zone_become_utc(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert one(zoned.isoformat(), "datetime") == zoned.astimezone(UTC)
    assert one(zoned.isoformat(sep=" "), "datetime") == zoned.astimezone(UTC)
    assert one(moment.isoformat(), "datetime") == moment.replace(tzinfo=UTC)
    assert one(moment.isoformat() + "Z", "datetime") == moment.replace(tzinfo=UTC)


def test_typed_moments_become_utc_and_dates_only_at_midnight() -> None:
    berlin = datetime(2020, 7, 1, 2)
    series = pl.Series([berlin]).dt.replace_time_zone("Europe/Berlin")
    assert one(series[0], "datetime", series.dtype) == datetime(2020, 7, 1, tzinfo=UTC)
    assert one(datetime(2020, 1, 1), "datetime") == datetime(2020, 1, 1, tzinfo=UTC)
    assert one(date(2020, 1, 1), "datetime") == datetime(2020, 1, 1, tzinfo=UTC)
    assert casted([datetime(2020, 1, 1), datetime(2020, 1, 1, 5)], "date") == [
        date(2020, 1, 1),
        None,
    ]
    assert one(date(2020, 1, 1), "date") == date(2020, 1, 1)
    assert one("2020-01-01", "date") == date(2020, 1, 1)
    assert one("2020-01-01T05:00", "date") is None


@pytest.mark.parametrize(
    "kind", ["integer", "float", "boolean", "string", "category", "date", "datetime"]
)
@pytest.mark.parametrize("value", [[1], {"a": 1}, b"ab", b"\xff"])
def test_what_is_not_one_value_is_of_no_type(kind: str, value: Any) -> None:
    assert one(value, kind) is None


def test_decimals() -> None:
    values = [Decimal("1.50"), Decimal("2.00")]
    assert casted(values, "integer", pl.Decimal(10, 2)) == [None, 2]
    assert casted(values, "float", pl.Decimal(10, 2)) == [1.5, 2.0]
