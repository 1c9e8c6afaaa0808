"""Rows that keep the contract, rows that do not and why."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.lake.documents import dump_json
from etl_ml.spec import Pipeline, parse
from etl_ml.validate import SchemaMismatch, validate
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import attributes, loans
from etl_ml_tests.validate.rows import checked, pipeline_of, rows_of


def reasons(values: list[Any], **column: Any) -> list[list[str]]:
    found = checked(rows_of(x=values), pipeline_of({"x": column}))[1]
    return [found.get(f"{i:04d}", []) for i in range(len(values))]


def test_each_rule_has_its_reason() -> None:
    assert reasons(["1", "x", "", "0", "11"], type="integer", nullable=False, min=1, max=10) == [
        [],
        ["x: type"],
        ["x: nullable"],
        ["x: min"],
        ["x: max"],
    ]
    text = {"type": "string", "allowed": ["ab", "Q", "abc"], "pattern": "^[a-z]+$", "max_length": 2}
    assert reasons(["ab", "zz", "Q", "abc", ""], **text) == [
        [],
        ["x: allowed"],
        ["x: pattern"],
        ["x: max_length"],
        [],
    ]
    assert reasons(["a", "b", "a", "", ""], type="string", unique=True) == [
        ["x: unique"],
        [],
        ["x: unique"],
        [],
        [],
    ]


def test_a_cell_has_one_reason_the_first_in_the_documented_order() -> None:
    everything = {
        "type": "string",
        "allowed": ["good"],
        "pattern": "^g",
        "max_length": 4,
        "unique": True,
    }
    assert reasons(["bad bad", "bad bad", "good"], **everything) == [["x: allowed"]] * 2 + [[]]
    del everything["allowed"]
    assert reasons(["bad bad", "bad bad", "good"], **everything) == [["x: pattern"]] * 2 + [[]]
    del everything["pattern"]
    assert reasons(["bad bad", "bad bad", "good"], **everything) == [["x: max_length"]] * 2 + [[]]
    number = {"type": "integer", "nullable": False, "min": 5, "allowed": [7], "unique": True}
    assert reasons(["3", "3", "x", "x", ""], **number) == [
        ["x: min"],
        ["x: min"],
        ["x: type"],
        ["x: type"],
        ["x: nullable"],
    ]


def test_limits_of_dates_hold() -> None:
    day = {"type": "date", "min": "2020-01-02", "max": "2020-01-03"}
    assert reasons(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"], **day) == [
        ["x: min"],
        [],
        [],
        ["x: max"],
    ]
    moment = {
        "type": "datetime",
        "min": "2020-01-01T12:00",
        "allowed": ["2020-01-01T12:00", "2020-01-02"],
    }
    assert reasons(
        ["2020-01-01T13:00+02:00", "2020-01-01T12:00Z", "2020-01-02", "2020-01-03"], **moment
    ) == [
        ["x: min"],
        [],
        [],
        ["x: allowed"],
    ]


def test_whole_numbers_may_be_allowed_in_a_float() -> None:
    assert reasons(["0", "0.5", "1.0", "2"], type="float", allowed=[0, 0.5, 1]) == [
        [],
        [],
        [],
        ["x: allowed"],
    ]


def test_a_row_has_a_reason_for_each_bad_cell_in_the_contracts_order() -> None:
    pipeline = pipeline_of({"b": {"type": "integer"}, "a": {"type": "integer"}})
    assert checked(rows_of(a=["x"], b=["y"]), pipeline)[1] == {"0000": ["b: type", "a: type"]}


def test_target_and_key_are_never_null() -> None:
    pipeline = pipeline_of({"id": {"type": "integer", "nullable": True}}, ["id"])
    rows = rows_of(id=["1", "", "3"], defaulted=["0", "1", "NA"])
    assert checked(rows, pipeline)[1] == {"0001": ["id: nullable"], "0002": ["defaulted: nullable"]}


CELLS = st.sampled_from(["1", "2", "3", "x", "", "99", "1.0", " 1", None])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=12),
    st.sampled_from([(), ("id",), ("id", "a")]),
    st.booleans(),
)
def test_valid_quarantined_and_superseded_are_together_what_was_read(
    cells: list[tuple[str | None, ...]], key: tuple[str, ...], unique: bool
) -> None:
    columns = {
        "id": {"type": "integer", "max": 50},
        "a": {"type": "integer", "unique": unique},
        "b": {"type": "string", "max_length": 1},
    }
    ids, a, b = zip(*cells, strict=True)
    rows = rows_of(
        id=pl.Series(ids, dtype=pl.String),
        a=pl.Series(a, dtype=pl.String),
        b=pl.Series(b, dtype=pl.String),
        defaulted=["0"] * len(cells),
    )
    result, told = checked(rows, pipeline_of(columns, key))
    for row in told.values():
        assert len(row) >= 1
        assert len({reason.partition(":")[0] for reason in row}) == len(row)
    valid = result.valid.collect()
    if key:
        assert not valid.select(key).is_duplicated().any()
    else:
        assert result.report["superseded_rows"] == 0


def test_conflicting_rows_of_one_key_are_both_quarantined() -> None:
    pipeline = pipeline_of({"id": {"type": "integer"}, "x": {"type": "string"}}, ["id"])
    rows = rows_of(id=["1", "1.0", "2"], x=["a", "b", "a"], defaulted=["0"] * 3)
    result, told = checked(rows, pipeline)
    assert told == {"0000": ["id: unique"], "0001": ["id: unique"]}
    assert result.report["superseded_rows"] == 0


def test_identical_rows_of_one_key_supersede_each_other() -> None:
    for unique in (False, True):
        columns = {
            "id": {"type": "integer", "unique": unique},
            "x": {"type": "string", "unique": unique},
        }
        rows = rows_of(id=["1", " 1 ", "1.0", "2"], x=["a", "a", "a ", "b"], defaulted=["0"] * 4)
        result, told = checked(rows, pipeline_of(columns, ["id"]))
        assert told == {}
        assert result.report["superseded_rows"] == 2
        assert sorted(result.valid.collect()["id"]) == [1, 2]


def test_a_key_of_two_columns_is_named_by_both() -> None:
    pipeline = pipeline_of(
        {"a": {"type": "integer"}, "b": {"type": "integer"}, "x": {"type": "string"}}, ["a", "b"]
    )
    rows = rows_of(a=["1", "1", "1"], b=["1", "1", "2"], x=["p", "q", "p"], defaulted=["0"] * 3)
    assert checked(rows, pipeline)[1] == {"0000": ["a, b: unique"], "0001": ["a, b: unique"]}


def test_a_bad_cell_is_not_the_same_content_as_no_cell() -> None:
    pipeline = pipeline_of({"id": {"type": "integer"}, "x": {"type": "integer"}}, ["id"])
    rows = rows_of(id=["1", "1"], x=["bad", ""], defaulted=["0", "0"])
    assert checked(rows, pipeline)[1] == {"0000": ["id: unique", "x: type"], "0001": ["id: unique"]}


def test_a_keys_cell_has_one_reason_too() -> None:
    pipeline = pipeline_of({"id": {"type": "integer", "min": 5}, "x": {"type": "string"}}, ["id"])
    rows = rows_of(id=["1", "1"], x=["a", "b"], defaulted=["0", "0"])
    assert checked(rows, pipeline)[1] == {"0000": ["id: min"], "0001": ["id: min"]}


def with_identity(frame: pl.DataFrame) -> pl.LazyFrame:
    return frame.lazy().with_columns(
        pl.int_range(pl.len()).cast(pl.String).alias("_etl_ml_row"),
        pl.lit(None, pl.String).alias("_etl_ml_original"),
    )


def test_typed_rows_are_valid_as_they_are() -> None:
    pipeline = make_pipeline()
    result, told = checked(with_identity(loans(300)), pipeline)
    assert told == {}
    assert result.passed
    assert result.valid.collect().drop("_etl_ml_row").equals(loans(300))


def test_a_missing_column_is_named_with_its_nearest() -> None:
    with pytest.raises(SchemaMismatch, match="no column 'income'") as caught:
        validate(with_identity(loans(10).rename({"income": "incomes"})), make_pipeline())
    assert caught.value.close == "'incomes'"


def test_an_unknown_column_is_named_with_its_place_and_nearest_or_dropped_or_kept() -> None:
    rows = with_identity(loans(300).with_columns(pl.lit(" z ").alias("agee")))
    with pytest.raises(SchemaMismatch, match="column 'agee' is not in the data contract") as caught:
        validate(rows, make_pipeline())
    assert caught.value.close == "'age'"
    assert caught.value.seen == "column 6 of 6"
    dropped = validate(rows, make_pipeline(contract={"unknown_columns": "drop"})).valid.collect()
    assert dropped.columns == [*loans(1).columns, "_etl_ml_row"]
    kept = validate(rows, make_pipeline(contract={"unknown_columns": "keep"})).valid.collect()
    assert kept["agee"].unique().to_list() == [" z "]


def test_too_many_bad_rows_are_told_with_share_limit_and_the_three_most_frequent_reasons() -> None:
    columns = {name: {"type": "integer"} for name in "abcd"}
    values = {
        "a": ["x"] * 8 + ["1"] * 12,
        "b": ["x"] * 6 + ["1"] * 14,
        "c": ["x"] * 4 + ["1"] * 16,
        "d": ["x"] * 2 + ["1"] * 18,
    }
    result = validate(rows_of(**values), pipeline_of(columns, max_quarantined=0.3))
    assert not result.passed
    message = result.problems["quarantined_share"]
    assert "8 of 20 rows (40.0%)" in message
    assert "max_quarantined is 30.0%" in message
    assert "a: type (8 rows), b: type (6 rows), c: type (4 rows)." in message
    assert "d: type" not in message
    at_the_limit = validate(rows_of(**values), pipeline_of(columns, max_quarantined=0.4))
    assert "quarantined_share" not in at_the_limit.problems


def test_too_few_valid_rows_are_told() -> None:
    problems = validate(
        rows_of(x=["1"] * 20), pipeline_of({"x": {"type": "string"}}, min_rows=21)
    ).problems
    assert "20 valid rows; validation.min_rows is 21" in problems["row_count"]


def labels(*values: str, positive: Any = None, **column: Any) -> dict[str, str]:
    columns = {"age": {"type": "integer"}, "y": {"type": "category", **column}}
    target: dict[str, Any] = {"column": "y"} | ({} if positive is None else {"positive": positive})
    pipeline = pipeline_for(columns, target)
    n = len(values)
    rows = pl.DataFrame({"age": ["1"] * n, "y": list(values)})
    return validate(with_identity(rows), pipeline).problems


def pipeline_for(columns: dict[str, Any], target: dict[str, Any]) -> Pipeline:
    given = attributes(validation={"min_rows": 0}) | {
        "contract": {"columns": columns},
        "target": target,
    }
    return parse(given, file="defs.yaml")


def test_a_target_of_one_class_is_refused() -> None:
    assert "has one class only ('a': 9 rows)" in labels(*"aaaaaaaaa", positive="a")["target"]


def test_a_class_needs_more_rows_than_there_are_folds() -> None:
    assert "training.folds = 3: 'b': 3 rows" in labels(*"aaaaabbb", positive="a")["target"]
    assert labels(*"aaaaabbbb", positive="a") == {}


def test_the_positive_one_of_two_labels_must_be_known() -> None:
    assert "name target.positive" in labels(*"aaaaabbbbb")["target"]
    assert "'c' is not a label" in labels(*"aaaaabbbbb", positive="c")["target"]
    assert labels(*"aaaabbbbcccc") == {}


def test_a_target_with_hundreds_of_values_is_no_class() -> None:
    assert "102 different values" in labels(*[str(i) for i in range(102)] * 5)["target"]


def test_a_sensitive_columns_values_are_nowhere_but_in_the_rows() -> None:
    columns = {
        "mail": {
            "type": "string",
            "sensitive": True,
            "pattern": "@",
            "max_length": 30,
            "unique": True,
        }
    }
    secret = [f"s3cret{i}@x" for i in range(30)] + ["s3cret", "s3cret-twice@x", "s3cret-twice@x"]
    result = validate(rows_of(mail=secret), pipeline_of(columns, max_quarantined=0.01))
    assert result.report["quarantined_rows"] == 3
    told = dump_json([result.report, result.profile, result.problems]).decode()
    assert "s3cret" not in told
    assert "mail: unique" in told
    broken = [c for c in result.report["checks"] if c["column"] == "mail" and not c["passed"]]
    assert [(c["name"], c["failed_rows"], c["examples"]) for c in broken] == [
        ("pattern", 1, []),
        ("unique", 2, []),
    ]
    assert set(result.profile["columns"]["mail"]) == {"type", "count", "nulls", "distinct"}


def test_examples_are_up_to_five_of_the_cells_as_they_were_read() -> None:
    values = [f"bad{i}" for i in range(9)] + ["y" * 300] * 2 + ["1"]
    result = validate(rows_of(x=values), pipeline_of({"x": {"type": "integer"}}))
    check = next(c for c in result.report["checks"] if (c["column"], c["name"]) == ("x", "type"))
    assert check["failed_rows"] == 11
    assert check["examples"] == [f"bad{i}" for i in range(5)]
    nested = validate(rows_of(x=[[1], [2]]), pipeline_of({"x": {"type": "string"}}))
    assert nested.report["quarantined_rows"] == 2
