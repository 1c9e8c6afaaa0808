from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_ml.spec.contract import Column
from etl_ml.validate.inputs import MissingInputs, check_columns, check_inputs

COLUMNS = {
    "age": Column(type="integer", nullable=False, min=18, max=100),
    "country": Column(type="category", allowed=("DE", "FR")),
    "opened": Column(type="date"),
}


def test_rows_come_out_in_their_types_and_bad_ones_say_why() -> None:
    rows = pl.DataFrame(
        {
            "opened": ["2026-01-01", "tomorrow", "", None],
            "age": ["18", "17", " 30 ", "x"],
            "country": ["DE", "IT", "?", "FR"],
            "other": [1, 2, 3, 4],
        }
    )
    found = check_inputs(rows, COLUMNS, ["?"])
    assert found.values.schema == {"age": pl.Int64, "country": pl.String, "opened": pl.Date}
    assert found.good.to_list() == [True, False, True, False]
    assert found.reasons.to_list() == [
        None,
        "age: min; country: allowed; opened: type",
        None,
        "age: type",
    ]
    assert found.values.row(0) == (18, "DE", date(2026, 1, 1))
    assert found.values.row(2) == (30, None, None)


def test_a_null_where_none_may_be_is_a_reason() -> None:
    rows = pl.DataFrame({"age": [None, 20], "country": [None, None], "opened": [None, None]})
    assert check_inputs(rows, COLUMNS).reasons.to_list() == ["age: nullable", None]


@given(st.lists(st.integers(0, 120), max_size=30))
def test_a_row_is_good_exactly_where_it_has_no_reason(ages: list[int]) -> None:
    rows = pl.DataFrame({"age": ages}, schema={"age": pl.Int64})
    found = check_inputs(rows, {"age": COLUMNS["age"]})
    assert found.good.to_list() == [18 <= age <= 100 for age in ages]
    assert found.reasons.is_null().to_list() == found.good.to_list()


@pytest.mark.parametrize("rows", [0, 3])
def test_a_model_without_columns_or_rows_is_no_special_case(rows: int) -> None:
    frame = pl.DataFrame({"x": [1.0] * rows}, schema={"x": pl.Float64})
    found = check_inputs(frame, {"x": Column(type="float")})
    assert (len(found.good), len(found.reasons), len(found.values)) == (rows, rows, rows)
    assert found.good.all()


def test_a_missing_column_is_named_with_its_nearest() -> None:
    with pytest.raises(MissingInputs) as told:
        check_columns(["age", "contry", "opened"], COLUMNS, "rows.csv")
    assert "'country'" in str(told.value)
    assert "nearest   'contry'" in str(told.value)


def test_other_columns_do_not_matter() -> None:
    check_columns(["x", "opened", "country", "age"], COLUMNS, "rows.csv")


@pytest.mark.parametrize(
    ("values", "kind"),
    [([float("inf"), 1.0], "float"), ([1.5, 2.0], "integer"), ([2**63, 1], "integer")],
)
def test_what_a_type_cannot_hold_is_a_reason(values: list[Any], kind: Any) -> None:
    frame = pl.DataFrame({"x": values})
    found = check_inputs(frame, {"x": Column(type=kind)})
    assert found.reasons.to_list() == ["x: type", None]
