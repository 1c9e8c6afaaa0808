"""Rules of a contract that can never hold are refused when the pipeline is read."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from etl_ml.spec import Column, Contract


def refused(**column: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Column(**column)
    return str(caught.value)


def test_min_above_max_is_refused() -> None:
    assert "no value can hold" in refused(type="integer", min=2, max=1)
    assert "no value can hold" in refused(type="float", min=0.2, max=0)
    assert "no value can hold" in refused(type="date", min="2024-02-01", max="2024-01-01")
    assert Column(type="integer", min=1, max=1).min == 1


@pytest.mark.parametrize("key", ["min", "max"])
@pytest.mark.parametrize("kind", ["string", "category", "boolean"])
def test_limits_do_not_apply_to_what_has_no_order(key: str, kind: str) -> None:
    assert f"`{key}` does not apply" in refused(type=kind, **{key: "a"})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", 0.5),
        ("integer", True),
        ("integer", "1"),
        ("integer", 2**63),
        ("integer", 10**30),
        ("float", "1"),
        ("float", True),
        ("float", math.nan),
        ("float", math.inf),
        ("float", 10**400),
        ("boolean", 1),
        ("boolean", "true"),
        ("string", 1),
        ("category", 1.5),
        ("date", "2024-02-30"),
        ("date", "2024-01-01T05:00"),
        ("date", 20240101),
        ("datetime", "yesterday"),
        ("datetime", 1.5),
    ],
)
def test_an_allowed_value_is_of_the_columns_type(kind: str, value: object) -> None:
    assert f"which is not of type {kind}" in refused(type=kind, allowed=[value])


def test_nothing_allowed_is_refused() -> None:
    assert "`allowed` is empty" in refused(type="string", allowed=[])


@pytest.mark.parametrize(
    "pattern",
    ["(", "[a", "a{2,1}", "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", r"(a)\1", r"a\Z", "(?>a)"],
)
def test_a_pattern_that_the_engine_cannot_run_is_refused(pattern: str) -> None:
    assert "does not compile" in refused(type="string", pattern=pattern)
    with pytest.raises(pl.exceptions.ComputeError):
        pl.Series(["a"]).str.contains(pattern)


@pytest.mark.parametrize("pattern", [r"^[A-Z]{2}$", r"\p{Greek}", r"\\1", r"(?i)a|b", r"^\d+\z"])
def test_a_pattern_that_the_engine_can_run_is_kept(pattern: str) -> None:
    assert Column(type="string", pattern=pattern).pattern == pattern
    assert pl.Series(["a"]).str.contains(pattern).dtype == pl.Boolean


@pytest.mark.parametrize("key", [{"pattern": "a"}, {"max_length": 3}])
@pytest.mark.parametrize("kind", ["integer", "float", "boolean", "date", "datetime"])
def test_text_rules_apply_to_text_only(key: dict[str, Any], kind: str) -> None:
    assert "does not apply" in refused(type=kind, **key)


def test_a_sensitive_columns_values_are_not_in_the_message() -> None:
    assert "5432" not in refused(type="string", sensitive=True, allowed=[5432])
    assert "5432" in refused(type="string", allowed=[5432])


def test_dates_may_be_written_as_text_because_dagster_reads_them_so() -> None:
    day = Column(type="date", min="2024-01-01", allowed=("2024-01-02", date(2024, 1, 3)))
    assert (day.min, day.allowed) == (date(2024, 1, 1), (date(2024, 1, 2), date(2024, 1, 3)))


def test_limits_of_a_datetime_are_moments_in_utc() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    for written in (
        "2024-01-01",
        "2024-01-01 00:00",
        "2024-01-01T02:00:00+02:00",
        "2024-01-01T00:00:00Z",
        date(2024, 1, 1),
        datetime(2024, 1, 1),
        datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
    ):
        column = Column(type="datetime", min=written, max="2025-01-01")
        assert isinstance(column.min, datetime)
        assert column.min == moment
        assert column.min.utcoffset() == timedelta(0)


def test_whole_limits_of_a_float_are_floats() -> None:
    column = Column(type="float", min=0, allowed=(0, 0.5, 1))
    assert [type(v) for v in (column.min, *(column.allowed or ()))] == [float] * 4


def contract(*names: str, **keys: Any) -> Contract:
    return Contract.model_validate({"columns": {n: {"type": "integer"} for n in names}, **keys})


def test_names_that_differ_by_case_only_are_refused() -> None:
    with pytest.raises(ValidationError, match="'Age' and 'age' differ by case only"):
        contract("Age", "age")


@pytest.mark.parametrize("name", ["", " a", "a ", "_etl_ml_row", "_reasons"])
def test_empty_padded_and_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="empty, padded or reserved"):
        contract(name)


def test_a_key_names_columns_and_each_once() -> None:
    with pytest.raises(ValidationError, match="names 'b', which is not under columns"):
        contract("a", primary_key=["b"])
    with pytest.raises(ValidationError, match="twice"):
        contract("a", primary_key=["a", "a"])


def test_a_contract_has_a_column() -> None:
    with pytest.raises(ValidationError, match="columns"):
        contract()


def test_sensitive_names_the_sensitive_columns() -> None:
    columns = {"a": Column(type="string", sensitive=True), "b": Column(type="string")}
    assert Contract(columns=columns).sensitive() == {"a"}
