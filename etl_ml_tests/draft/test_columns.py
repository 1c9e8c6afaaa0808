from __future__ import annotations

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from etl_ml.draft.columns import DraftColumn, infer


def found(values: list[Any], name: str = "x", *, target: bool = False) -> DraftColumn:
    return infer(pl.Series(name, values), target=target)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", " 3 "], "integer"),
        (["1.5", "2", "1e3"], "float"),
        (["yes", "no", "yes"], "boolean"),
        (["2026-01-01", "2026-02-01"], "date"),
        (["2026-01-01 10:00", "2026-02-01T11:00:00Z"], "datetime"),
        (["01067", "10115", "80331"], "category"),  # a post code is no quantity
        (["a", "b", "a"], "category"),
        ([1, 2, 3], "integer"),
        ([1.5, None], "float"),
        ([True, False], "boolean"),
        ([date(2026, 1, 1)], "date"),
        ([datetime(2026, 1, 1)], "datetime"),
    ],
)
def test_the_type_is_the_narrowest_that_every_value_has(values: list[Any], kind: str) -> None:
    assert found(values).kind == kind


def test_yes_and_no_stay_labels_where_they_are_predicted() -> None:
    assert found(["yes", "no"] * 5, target=True).kind == "category"


def test_words_that_mean_null_are_found() -> None:
    column = found(["1", "NULL", "3", "", "n/a", "7"])
    assert (column.kind, column.nulls) == ("integer", ("NULL", "n/a"))
    assert "nullable" not in column.contract
    assert "50.0% null" in column.seen


def test_a_few_cells_of_another_type_are_set_aside_and_counted() -> None:
    column = found([*map(str, range(99)), "x"])
    assert column.kind == "integer"
    assert column.broken == pytest.approx(0.01)
    assert column.contract["nullable"] is False
    assert "set aside" in column.seen


def test_no_null_and_no_negative_number_become_rules() -> None:
    assert found(["0", "5", "9"]).contract == {"type": "integer", "nullable": False, "min": 0}
    assert found(["-1", "5", "9"]).contract == {"type": "integer", "nullable": False}
    assert found(["0", "1", "1"]).contract["allowed"] == [0, 1]


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("x", ["7"] * 50, "it has one value only"),
        ("x", [""] * 50, "it has no value"),
        ("customer_id", [f"C{n:05}" for n in range(200)], "it identifies a row"),
        ("customerId", [str(7 * n) for n in range(200)], "it identifies a row"),
        ("x", [str(n) for n in range(1, 201)], "it numbers the rows"),
        ("code", [f"{n * 7919 % 10007}x" for n in range(200)], "every row has another value"),
        ("remarks", [f"The customer said {n} " + "many words " * 9 for n in range(40)], "it is p"),
    ],
)
def test_what_no_model_should_see_says_why(name: str, values: list[str], why: str) -> None:
    assert (found(values, name).excluded or "").startswith(why)


@pytest.mark.parametrize("name", ["amount", "paid", "width", "video", "grid", "valid"])
def test_a_name_that_only_looks_like_an_identifier_is_none(name: str) -> None:
    assert found([str(n * n) for n in range(200)], name).excluded is None


def test_personal_values_are_sensitive_and_stand_in_no_comment() -> None:
    for name, values in (
        ("e_mail", ["a@example.org", "b@example.org"]),
        ("contact", [f"p{n}@example.org" for n in range(50)]),
        ("last_name", ["Smith", "Jones", "Smith"]),
    ):
        column = found(values, name)
        assert column.contract["sensitive"] is True
        assert not any(value in column.seen for value in values)


@pytest.mark.parametrize("values", [[[1], [2]], [{"a": 1}], [None, None], [b"x"]])
def test_what_is_no_single_value_is_left_out(values: list[Any]) -> None:
    assert found(values).left_out


def test_a_comment_never_breaks_its_line() -> None:
    assert "\n" not in found(["a\nb", "c"] * 10).seen
