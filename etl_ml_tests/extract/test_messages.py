"""Values of messages as cells: what was sent, exactly, or set aside as it was."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.extract.documents import Documents, parse_json
from etl_ml.extract.messages import JsonValues, Messages, as_text, keys
from etl_ml.lake.identity import ORIGINAL
from etl_ml.spec.contract import Contract

KINDS = {"i": "integer", "f": "float", "s": "string", "b": "boolean", "d": "datetime"}
CONTRACT = Contract.model_validate(
    {"columns": {name: {"type": kind} for name, kind in (KINDS | {"n.x": "string"}).items()}}
)
OWN = {"_offset": pa.int64()}


def batch(values: list[bytes | None], contract: Contract = CONTRACT) -> list[dict[str, Any]]:
    own = {"_offset": list(range(len(values)))}
    rows: list[dict[str, Any]] = (
        Messages(contract, JsonValues(), OWN).batch(values, own).to_pylist()
    )
    return rows


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)
NAMES = st.sampled_from([*KINDS, "n", "n.x", "other"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=6), min_size=1, max_size=5), st.booleans())
def test_cells_are_those_of_an_exact_reader(rows: list[dict[str, Any]], ascii_only: bool) -> None:
    values = [json.dumps(row, ensure_ascii=ascii_only).encode() for row in rows]
    expected = Documents(CONTRACT).batch([parse_json(value) for value in values]).to_pylist()
    for found, wanted in zip(batch(values), expected, strict=True):
        original = found.pop(ORIGINAL), wanted.pop(ORIGINAL)
        assert (original[0] is None) == (original[1] is None)
        if original[0] is not None:
            assert json.loads(original[0]) == json.loads(original[1])
        number, exact = found.pop("f"), wanted.pop("f")
        assert {name: found[name] for name in wanted} == wanted
        # A float's text may be shorter than it was; its value is the same.
        if number != exact:
            assert float(number) == float(exact)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"{}", b'{"i":1}', b"{", b"}", b"null"])))
def test_any_bytes_are_a_row_in_their_place_and_come_out_as_they_were(values: list[bytes]) -> None:
    for value, row in zip(values, batch(list(values)), strict=True):
        try:
            document = json.loads(value.decode("utf-8-sig"), parse_constant=lambda name: 1 / 0)
        except (ValueError, ZeroDivisionError):
            document = None
        if isinstance(document, dict):
            continue
        if value[:1] == b"\0" and len(value) > 5:
            continue  # perhaps a framed document
        assert json.loads(row[ORIGINAL]) == as_text(value)
        assert all(row[name] is None for name in KINDS)


@pytest.mark.parametrize(
    ("name", "sent", "cell"),
    [
        ("s", "12345678901234567890123456789.10", "12345678901234567890123456789.10"),
        ("s", "1.10", "1.10"),
        ("s", '[1.10, {"a": 1e2}]', '[1.10, {"a": 1e2}]'),
        ("i", "123456789012345678901234567890", "123456789012345678901234567890"),
        ("i", "9007199254740993.0", "9007199254740993.0"),
        ("f", "0.1", "0.1"),
        ("f", "-0.0", "-0"),
        ("b", "true", "true"),
        ("d", '"2026-01-31T12:00:00Z"', "2026-01-31T12:00:00Z"),
        ("n.x", '"direct"', "direct"),
    ],
)
def test_numbers_keep_the_digits_that_their_column_can_hold(
    name: str, sent: str, cell: str
) -> None:
    (row,) = batch([f'{{"{name}": {sent}}}'.encode()])
    assert row[name] == cell
    assert row[ORIGINAL] is None
    if name != "s" and cell[0].isdigit():
        assert Decimal(cell) == Decimal(sent.strip('"')) if name in "if" else True


def test_half_of_a_surrogate_pair_and_a_byte_order_mark_are_json() -> None:
    rows = batch([b'{"s": "\\ud800"}', b'\xef\xbb\xbf{"s": "x"}', b' {"s": "y"}\r\n'])
    assert [row["s"] for row in rows] == [None, "x", "y"]
    assert json.loads(rows[0][ORIGINAL])
    assert rows[1][ORIGINAL] is rows[2][ORIGINAL] is None


def test_the_frame_of_a_schema_registry_is_no_part_of_the_json() -> None:
    (row,) = batch([b'\x00\x00\x00\x00\x07{"s": "x"}'])
    assert (row["s"], row[ORIGINAL]) == ("x", None)


def test_a_message_without_a_value_is_told_from_one_that_says_null() -> None:
    rows = batch([None, b"null", b'"null"'])
    assert [row[ORIGINAL] for row in rows] == ["null", '"null"', '"\\"null\\""']


def test_a_field_with_the_name_of_a_place_is_not_the_place() -> None:
    columns = {"s": {"type": "string"}, "_offset": {"type": "integer"}}
    contract = Contract.model_validate({"columns": columns})
    (row,) = batch([b'{"s": "x", "_offset": 9}'], contract)
    assert row["_offset"] == 0
    assert json.loads(row[ORIGINAL]) == {"s": "x", "_offset": 9}


def test_keys_are_text_where_they_can_be() -> None:
    assert keys([b"a", None, "ключ".encode()]).to_pylist() == ["a", None, "ключ"]
    assert keys([b"a", None, b"\xff"]).to_pylist() == ["a", None, "data:;base64,/w=="]
