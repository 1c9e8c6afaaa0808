"""Rows that are JSON, or what is like it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Literal

import pytest

from etl_ml.extract.documents import Documents, Number, parse_json, to_json, to_text
from etl_ml.lake.identity import ORIGINAL
from etl_ml.spec.contract import Contract


def cells(
    *rows: Any, names: tuple[str, ...] = ("a",), unknown: Literal["fail", "drop"] = "drop"
) -> list[dict[str, Any]]:
    """The rows as `Documents` gives them; what is null is left out."""
    columns = {name: {"type": "string"} for name in names}
    contract = Contract.model_validate({"unknown_columns": unknown, "columns": columns})
    documents = Documents(contract)
    batch = documents.batch(rows)
    assert batch.schema == documents.schema
    assert batch.schema.names == [*names, ORIGINAL]
    assert {str(field.type) for field in batch.schema} == {"string"}
    return [{n: v for n, v in row.items() if v is not None} for row in batch.to_pylist()]


NUMBERS = [
    *("0", "-0", "7", "-9223372036854775808", "18446744073709551616", "9" * 4000),
    *("1.10", "0.1", "-0.0", "1e400", "1E-400", "12345678901234567890.12345678901234567890"),
]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_of_json_keeps_its_digits(number: str) -> None:
    text = f'{{"a": {number}, "b": {{"c": [{number}]}}}}'
    expected = "0" if number == "-0" else number  # an integer has one zero
    (row,) = cells(parse_json(text), names=("a", "b", "b.c"))
    assert row == {"a": expected, "b": f'{{"c": [{expected}]}}', "b.c": f"[{expected}]"}


def test_numbers_of_many_kinds_share_a_column() -> None:
    rows = [1, 2**63, Number("1.50"), 0.1, Decimal("1E+2"), Decimal("1E-7"), True, "x", None]
    texts = ["1", str(2**63), "1.50", "0.1", "100", "0.0000001", "true", "x"]
    assert cells(*({"a": value} for value in rows)) == [*({"a": text} for text in texts), {}]


def test_a_decimal_is_written_plainly_until_that_is_long() -> None:
    assert to_text(Decimal("1E+59")) == "1" + "0" * 59
    assert to_text(Decimal("1E+1000000")) == "1E+1000000"
    assert to_text(Decimal("1E-1000000")) == "1E-1000000"


def test_what_is_no_number_of_json_is_refused() -> None:
    for text in ("NaN", '{"a": Infinity}', "[-Infinity]", "{", b"\xff", ""):
        with pytest.raises(ValueError):  # noqa: PT011
            parse_json(text)
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_objects_and_arrays_are_json_again() -> None:
    value = {"é": [1, Number("2.50"), None, True, {}], 'q"': "a\nb", "n": {"m": []}}
    text = to_json(value)
    assert json.loads(text) == {"é": [1, 2.5, None, True, {}], 'q"': "a\nb", "n": {"m": []}}
    assert '"é": [1, 2.50, null, true, {}]' in text
    assert cells({"a": value}) == [{"a": text}]
    assert to_json({"b": b"\x00\xff", "s": {"y", "x"}, "k": (1, 2)}) == (
        '{"b": "AP8=", "s": ["x", "y"], "k": [1, 2]}'
    )


def test_equal_sets_are_equal_cells() -> None:
    texts = [f"t{n}" for n in range(100)]
    assert to_text(set(texts)) == to_text(frozenset(texts)) == json.dumps(sorted(texts))
    assert to_text({Decimal(3), Decimal(1), Decimal("2.50")}) == "[1, 2.50, 3]"


def test_a_dotted_name_reaches_into_objects() -> None:
    assert cells(
        {"a": {"b": {"c": 1}}},
        {"a.b": {"c": 2}},
        {"a": {"b.c": 3}},
        {"a.b.c": 4, "a": {"b": {"c": 5}}},
        {"a": {"b": None}, "a.b": {"c": 6}},
        names=("a.b.c",),
    ) == [{"a.b.c": str(n)} for n in (1, 2, 3, 4, 6)]


def test_what_a_dotted_name_does_not_reach_is_null() -> None:
    rows = ({}, {"a": None}, {"a": 1}, {"a": "b"}, {"a": [{"b": 1}]}, {"a": {"b": None}})
    assert cells(*rows, names=("a.b",)) == [{}] * len(rows)
    # A field of that very name wins, even as null.
    assert cells({"a.b": None, "a": {"b": 1}}, names=("a.b",)) == [{}]


def test_a_name_may_stand_beside_one_that_reaches_into_it() -> None:
    assert cells({"a": {"b": 1}}, {"a": 2}, names=("a", "a.b")) == [
        {"a": '{"b": 1}', "a.b": "1"},
        {"a": "2"},
    ]


def test_an_unknown_field_keeps_its_row_whole_or_is_passed_over() -> None:
    rows = ({"a": 1}, {"a": 2, "more": Number("1.0")}, {"more": None})
    assert cells(*rows, unknown="fail") == [
        {"a": "1"},
        {"a": "2", ORIGINAL: '{"a": 2, "more": 1.0}'},
        {ORIGINAL: '{"more": null}'},
    ]
    assert cells(*rows, unknown="drop") == [{"a": "1"}, {"a": "2"}, {}]


def test_what_is_beside_a_nested_name_is_not_unknown() -> None:
    row = {"a": {"b": 1, "c": 2}}
    assert cells(row, names=("a.b",), unknown="fail") == [{"a.b": "1"}]
    (found,) = cells({"ab": 1}, names=("a.b",), unknown="fail")
    assert found == {ORIGINAL: '{"ab": 1}'}


@pytest.mark.parametrize("unknown", ["fail", "drop"])
def test_a_row_that_is_no_object_is_kept_as_it_is(unknown: Literal["fail", "drop"]) -> None:
    rows = (None, 1, Number("1.50"), "x", True, [{"a": 1}], {"a": 1}, [])
    texts = ("null", "1", "1.50", '"x"', "true", '[{"a": 1}]', None, "[]")
    assert cells(*rows, unknown=unknown) == [
        {"a": "1"} if text is None else {ORIGINAL: text} for text in texts
    ]


def test_half_a_surrogate_pair_harms_its_own_row_alone() -> None:
    rows = [parse_json(t) for t in (r'{"a": "\ud83d"}', r'{"a": "\ud83d\ude00"}', '{"a": 1}')]
    assert cells(*rows) == [{ORIGINAL: '{"a": "\\ud83d"}'}, {"a": "😀"}, {"a": "1"}]
    # In a field that no column names, and in its name.
    (found,) = cells(parse_json(r'{"a": 1, "\udc00": "\ud83d"}'), unknown="fail")
    assert found == {"a": "1", ORIGINAL: '{"a": 1, "\\udc00": "\\ud83d"}'}
    assert cells(parse_json(r'{"a": {"b": "\ud83d"}}'), names=("a", "a.b")) == [
        {ORIGINAL: '{"a": {"b": "\\ud83d"}}'}
    ]


def test_no_rows_are_an_empty_batch() -> None:
    assert cells() == []


def test_every_row_that_is_null_is_there() -> None:
    assert cells({"a": None}, {}, {"a": None}) == [{}, {}, {}]


def test_deep_nesting_is_kept_or_told() -> None:
    assert to_text(parse_json("[" * 600 + "]" * 600)) == "[" * 600 + "]" * 600
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)
