"""What a document had that its cells cannot hold becomes a reason."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from etl_ml.spec import Pipeline
from etl_ml.validate import validate
from etl_ml_tests.conftest import make_pipeline

COLUMNS = {
    "age": {"type": "integer"},
    "home.city": {"type": "string"},
    "defaulted": {"type": "integer", "allowed": [0, 1]},
}
MONGODB = {"type": "mongodb", "uri": "mongodb://h", "database": "d", "collection": "c"}
SQL = {"type": "sql", "url": "sqlite:///x", "table": "t"}


def pipeline(source: dict[str, Any], **contract: Any) -> Pipeline:
    return make_pipeline(source=source, contract={"columns": COLUMNS, **contract})


def reasons(found: Pipeline, *originals: Any) -> list[list[str]]:
    """Of rows without an age that were read from these; `None` for a row that is whole."""
    rows = len(originals)
    texts = [None if original is None else json.dumps(original) for original in originals]
    frame = pl.DataFrame(
        {
            "age": pl.Series([None] * rows, dtype=pl.Int64),
            "home.city": ["Ulm"] * rows,
            "defaulted": [i % 2 for i in range(rows)],
            "_etl_ml_row": [f"{i:032x}-0" for i in range(rows)],
            "_etl_ml_original": pl.Series(texts, dtype=pl.String),
        }
    )
    bad = validate(frame.lazy(), found).quarantined.collect()
    by_row = dict(zip(bad["_etl_ml_row"], bad["_reasons"].to_list(), strict=True))
    return [by_row.get(f"{i:032x}-0", []) for i in range(rows)]


def test_a_cell_that_could_not_be_held_is_of_the_wrong_type_and_not_missing() -> None:
    found = reasons(pipeline(MONGODB), None, {"_id": 1, "age": 3.7}, {"_id": 2, "age": None})
    assert found == [[], ["age: type"], []]
    assert reasons(pipeline(SQL), {"age": "18446744073709551615"}) == [["age: type"]]


def test_a_field_that_is_not_contracted_is_named_if_the_contract_wants_none() -> None:
    document = {"_id": 1, "home": {"city": "Ulm", "street": "x"}, "colour": "red", "size": 2}
    assert reasons(pipeline(MONGODB), document) == [
        ["colour: unknown_columns", "size: unknown_columns"]
    ]
    assert reasons(pipeline(MONGODB, unknown_columns="drop"), document) == [[]]


@pytest.mark.parametrize("document", [5, [1], "text"])
def test_a_row_that_is_no_object_is_quarantined(document: Any) -> None:
    api = {"type": "rest_api", "base_url": "http://h"}
    assert reasons(pipeline(api), document) == [["(row): unknown_columns"]]
