"""BSON cells in their contracted types, exactly; what does not fit is kept as it was."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId

from etl_ml.extract.decoding import Decoder
from etl_ml.spec.contract import Column

TYPES = ("integer", "float", "boolean", "string", "category", "datetime", "date")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def decoded(columns: dict[str, Any], *documents: dict[str, Any], strict: bool = True) -> Any:
    """The rows of one raw batch; `_etl_ml_original` parsed."""
    decoder = Decoder({n: Column(type=t) for n, t in columns.items()}, strict=strict)
    raw = b"".join(bson.encode({"_id": i, **d}) for i, d in enumerate(documents))
    batch = decoder.batch(raw)
    assert batch.schema == decoder.schema
    rows = batch.to_pylist()
    for row in rows:
        row.pop("_id")
        text = row.pop("_etl_ml_original")
        row["original"] = None if text is None else json.loads(text)
    return rows


@pytest.mark.parametrize(
    ("kind", "value", "cell"),
    [
        ("integer", 5, 5),
        ("integer", 5.0, 5),
        ("integer", Int64(2**60 + 1), 2**60 + 1),
        ("integer", Decimal128("12"), 12),
        ("float", 5, 5.0),
        ("float", 1e300, 1e300),
        ("float", float("inf"), float("inf")),  # that it is not finite is validation's business
        ("float", Int64(2**60), float(2**60)),
        ("float", Decimal128("1.10"), 1.1),
        ("boolean", True, True),
        ("boolean", 1, True),
        ("string", "x", "x"),
        ("string", ObjectId("0123456789abcdef01234567"), "0123456789abcdef01234567"),
        ("string", Decimal128("1.10"), "1.10"),
        ("category", "é", "é"),
        ("datetime", NOW, NOW),
        ("date", NOW, NOW),
        *((kind, None, None) for kind in TYPES),
        ("float", float("nan"), None),
        ("integer", float("nan"), None),
    ],
)
def test_a_value_that_its_type_holds_is_a_cell(kind: str, value: Any, cell: Any) -> None:
    # Alone, and in a batch that is decoded document by document because of another one.
    assert decoded({"a": kind}, {"a": value}) == [{"a": cell, "original": None}]
    beside = decoded({"a": kind}, {"a": value}, {"a": [1]})
    assert beside[0] == {"a": cell, "original": None}
    assert beside[1]["original"]["a"] == [1]


@pytest.mark.parametrize(
    ("kind", "value", "original"),
    [
        ("integer", 3.7, 3.7),
        ("integer", "5", "5"),
        ("integer", [5], [5]),
        ("integer", {"b": 5}, {"b": 5}),
        ("integer", Decimal128("3.5"), {"$numberDecimal": "3.5"}),
        ("integer", 1e19, 1e19),
        ("float", "1.5", "1.5"),
        ("float", Int64(2**60 + 1), 2**60 + 1),
        ("boolean", 2, 2),
        ("string", 5, 5),
        ("string", NOW, {"$date": "2026-01-02T03:04:05.678Z"}),
        ("datetime", "2026-01-02", "2026-01-02"),
        ("datetime", 5, 5),
    ],
)
def test_a_value_that_its_type_cannot_hold_is_kept_and_harms_no_other(
    kind: str, value: Any, original: Any
) -> None:
    good = {"integer": 1, "float": 1.5, "boolean": True, "string": "x", "datetime": NOW}[kind]
    rows = decoded({"a": kind}, {"a": good}, {"a": value}, {"a": good})
    assert rows[0] == rows[2] == {"a": good, "original": None}
    assert rows[1]["a"] is None
    assert rows[1]["original"] == {"_id": 1, "a": original}


def test_a_missing_field_and_a_null_are_both_null() -> None:
    assert decoded({"a": "integer"}, {}, {"a": None}) == [{"a": None, "original": None}] * 2


def test_a_field_that_is_not_contracted_makes_its_document_an_original_only_if_asked() -> None:
    documents: list[dict[str, Any]] = [{"a": 1}, {"a": 2, "b": None}, {"a": 3, "c": {"d": [1]}}]
    rows = decoded({"a": "integer"}, *documents)
    assert [row["a"] for row in rows] == [1, 2, 3]
    assert [row["original"] for row in rows] == [
        None,
        {"_id": 1, "a": 2, "b": None},
        {"_id": 2, "a": 3, "c": {"d": [1]}},
    ]
    assert not any(r["original"] for r in decoded({"a": "integer"}, *documents, strict=False))


def test_dotted_names_reach_into_documents() -> None:
    columns = {"n.x": "integer", "n.y.z": "string"}
    rows = decoded(columns, {"n": {"x": 1, "y": {"z": "q"}}}, {"n": {"x": 2}}, {"n": None}, {})
    assert [(row["n.x"], row["n.y.z"]) for row in rows] == [
        (1, "q"),
        (2, None),
        (None, None),
        (None, None),
    ]
    assert not any(row["original"] for row in rows)


@pytest.mark.parametrize("value", [5, [{"x": 1}], {"x": 1, "y": 7}])
def test_a_scalar_in_a_documents_place_is_not_taken_for_nothing(value: Any) -> None:
    rows = decoded({"n.x": "integer", "n.y.z": "string"}, {"n": value}, {"n": {"x": 3}})
    assert rows[0]["original"] == {"_id": 0, "n": value}
    assert rows[1] == {"n.x": 3, "n.y.z": None, "original": None}


def test_ids_are_text_that_tells_their_types_apart() -> None:
    decoder = Decoder({"a": Column(type="integer")}, strict=True)
    ids = [ObjectId(), "x", 5, "5"]
    raw = b"".join(bson.encode({"_id": one, "a": 1}) for one in ids)
    found = decoder.batch(raw).column("_id").to_pylist()
    assert found == [str(ids[0]), "x", '{"$numberInt": "5"}', "5"]


def test_a_column_that_is_stored_otherwise_is_soon_decoded_in_one_go() -> None:
    decoder = Decoder({"price": Column(type="float")}, strict=True)
    raw = b"".join(
        bson.encode({"_id": ObjectId(), "price": Decimal128(f"{i}.25")}) for i in range(50)
    )
    first = decoder.batch(raw)
    slow: list[bytes] = []
    decoder._document_by_document = slow.append  # type: ignore[assignment,method-assign]
    assert decoder.batch(raw) == first
    assert first.column("price").to_pylist() == [i + 0.25 for i in range(50)]
    assert not slow
