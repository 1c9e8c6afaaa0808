"""The language of rules between columns: what is read, and what is refused before any row is."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.spec import InvalidPipeline
from etl_ml.spec.expression import InvalidRule, columns_of, parse_rule
from etl_ml_tests.conftest import make_pipeline

COLUMNS = {
    "a": "integer",
    "b": "float",
    "name": "string",
    "kind": "category",
    "ok": "boolean",
    "day": "date",
    "paid_at": "datetime",
    "created_at": "datetime",
    "post code": "string",
    "address.city": "string",
}


@pytest.mark.parametrize(
    ("rule", "columns"),
    [
        ("paid_at >= created_at", ("paid_at", "created_at")),
        ("a > 0 or ok == false", ("a", "ok")),
        ("b is null or a < 3", ("b", "a")),
        ("(a + 1) * 2 > b / 3 - -4", ("a", "b")),
        ("((((a)))) > 1", ("a",)),
        ("not (a > 1 and b > 1) or ok", ("a", "b", "ok")),
        ("name in ('x', \"it's\", 'it''s')", ("name",)),
        (
            "length(`post code`) between 4 and 8 and address.city is not null",
            ("post code", "address.city"),
        ),
        ("day >= '2020-01-01' AND paid_at < '2021-01-01T10:00+02:00'", ("day", "paid_at")),
        ("day <= paid_at", ("day", "paid_at")),
        ("a not between 1 and 2", ("a",)),
        ("kind NOT IN ('x')", ("kind",)),
        ("lower(name) == upper(kind)", ("name", "kind")),
        ("b < 1e3 and b > .5", ("b",)),
        ("ok", ("ok",)),
        ("not not ok", ("ok",)),
    ],
)
def test_rules_that_people_write_are_read(rule: str, columns: tuple[str, ...]) -> None:
    assert columns_of(parse_rule(rule, COLUMNS)) == columns


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("", "a column or a value"),
        ("   ", "a column or a value"),
        ("a", "a comparison is missing"),
        ("a >", "the rule ends"),
        ("a > 1 b > 2", "'b' stands where and, or"),
        ("a = 1", "write == and not ="),
        ("a <> 1", "write != and not <>"),
        ("nmae == 'x'", "did you mean 'name'"),
        ("name == x", "no column 'x'"),
        ("name > 3", "a text cannot be compared with a number"),
        ("a == 'x'", "a number cannot be compared with a text"),
        ("name + 1 > 2", "+ takes numbers, not a text"),
        ("ok < true", "have no order"),
        ("ok == 1", "a boolean cannot be compared with a number"),
        ("day > 'yesterday'", "is no ISO 8601 date"),
        ("1 > 2", "names no column"),
        ("a == a", "both sides are the same"),
        ("(a > 1", "where ) was expected"),
        ("a > 1)", "')' stands"),
        ("a in (1, b)", "takes values, not columns"),
        ("a in ()", "a column or a value"),
        ("exp(a) > 1", "no function 'exp'"),
        ("length(a) > 1", "length takes a text"),
        ("a > 99999999999999999999", "no 64-bit number"),
        ("__import__('os').system('x')", "cannot be read at character 17"),
        ("__import__('os') > 1", "no function '__import__'"),
        ("a > 1; b > 2", "cannot be read at character 6"),
        ("a ** 2 > 1", "a column or a value"),
        ("'open > 1", "cannot be read"),
        ("not " * 200 + "ok", "nested more than 40 deep"),
        ("(" * 300 + "a" + ")" * 300 + " > 1", "nested more than 40 deep"),
        ("-" * 300 + "a > 1", "nested more than 40 deep"),
        ("a > 1 or " * 200 + "a > 2", "characters long"),
    ],
)
def test_a_rule_that_cannot_be_asked_says_what_is_wrong_where(rule: str, told: str) -> None:
    with pytest.raises(InvalidRule) as error:
        parse_rule(rule, COLUMNS)
    assert told in str(error.value)
    assert len(str(error.value)) < 200


def test_a_wrong_rule_is_refused_with_its_file_when_the_pipeline_is_loaded() -> None:
    def refused(*rules: Any) -> str:
        contract = {"columns": {"age": {"type": "integer"}, "defaulted": {"type": "integer"}}}
        with pytest.raises(InvalidPipeline) as error:
            make_pipeline(contract={**contract, "rules": list(rules)})
        return str(error.value)

    assert "did you mean 'age'" in refused("aeg > 1")
    assert "defs.yaml" in refused("aeg > 1")
    assert "stands there twice" in refused("age > 1", "age > 1")
    assert "contract.rules.0" in refused(5)
    assert make_pipeline(
        contract={
            "columns": {"age": {"type": "integer"}, "defaulted": {"type": "integer"}},
            "rules": ["age > defaulted"],
        }
    ).contract.rules == ("age > defaulted",)


PIECES = [*COLUMNS, *"()+-/,<`._\x00é", "and", "or", "not", "in", "between", "is", "null", "=="]
PIECES += ["1", "2.5", "'x'", "length", "true", "'2020-01-01'"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=80).map(" ".join) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidRule):
        parse_rule(text, COLUMNS)
