"""Odd tables: exact counts, no crash, and the same in memory and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.lake.documents import dump_json
from etl_ml.spec import Pipeline
from etl_ml.validate import Validation, drift, report_html, validate
from etl_ml_tests.validate.rows import checked, pipeline_of, rows_of


def both_ways(rows: pl.LazyFrame, pipeline: Pipeline, folder: Path) -> Validation:
    """Validated in memory and on disk, which must be the same."""
    held, _ = checked(rows, pipeline)
    down = validate(rows, pipeline, folder=folder)
    assert dump_json(down.report) == dump_json(held.report)
    assert dump_json(down.profile) == dump_json(held.profile)
    for one, other in ((down.valid, held.valid), (down.quarantined, held.quarantined)):
        assert one.collect().sort("_etl_ml_row").equals(other.collect().sort("_etl_ml_row"))
    assert down.valid_file is not None
    assert down.valid_file.rows == down.report["valid_rows"]
    told = drift(down.valid, held.valid, pipeline, version="1", sample=down.sample)
    assert not told["drifted"]
    assert report_html(pipeline, down.report, told, down.profile)
    return down


@pytest.mark.parametrize("n", [1, 2, 500])
def test_where_every_row_is_bad_all_are_set_aside_and_it_is_told(n: int, tmp_path: Path) -> None:
    found = both_ways(
        rows_of(x=["bad"] * n), pipeline_of({"x": {"type": "float"}}, max_quarantined=0.5), tmp_path
    )
    assert found.report["quarantined_rows"] == n
    assert f"{n} of {n} rows (100.0%)" in found.problems["quarantined_share"]
    assert not found.passed


def test_no_row_at_all_is_told(tmp_path: Path) -> None:
    rows = rows_of(x=["1"]).head(0)
    found = both_ways(rows, pipeline_of({"x": {"type": "float"}}), tmp_path)
    assert (found.report["rows"], found.passed) == (0, False)
    assert found.profile["columns"]["x"]["count"] == 0


def test_one_row_is_told(tmp_path: Path) -> None:
    found = both_ways(rows_of(x=["1"]), pipeline_of({"x": {"type": "float"}}), tmp_path)
    assert found.report["valid_rows"] == 1
    assert "one class only" in found.problems["target"]


NUMBERS = [None, float("nan"), 0.0, -0.0, 1e308, -1e308, 5e-324, 1.0]


def test_odd_numbers_are_counted_exactly(tmp_path: Path) -> None:
    values = pl.Series(NUMBERS * 100, strict=False)
    columns = {"x": {"type": "float"}, "empty": {"type": "float"}, "same": {"type": "integer"}}
    nothing = pl.Series([None] * 800, dtype=pl.Float64)
    found = both_ways(
        rows_of(x=values, empty=nothing, same=[7] * 800), pipeline_of(columns), tmp_path
    )
    told = found.profile["columns"]
    assert found.report["valid_rows"] == 800
    assert (told["x"]["count"], told["x"]["nulls"], told["x"]["distinct"]) == (600, 200, 5)
    assert (told["x"]["min"], told["x"]["max"]) == (-1e308, 1e308)
    assert np.isfinite([told["x"]["mean"], told["x"]["std"]]).all()
    assert (told["empty"]["count"], told["empty"]["distinct"], told["empty"]["mean"]) == (
        0,
        0,
        None,
    )
    assert (told["same"]["mean"], told["same"]["std"], told["same"]["distinct"]) == (7.0, 0.0, 1)


def test_odd_texts_are_counted_exactly(tmp_path: Path) -> None:
    texts = ["😀", "a\x00b", "x" * 1_000_000, "é", "e\u0301", "", " pad ", "<b>"]
    found = both_ways(rows_of(x=texts * 5), pipeline_of({"x": {"type": "string"}}), tmp_path)
    told = found.profile["columns"]["x"]
    assert (told["count"], told["nulls"], told["distinct"]) == (35, 5, 7)
    assert max(found.valid.collect()["x"].str.len_chars().drop_nulls()) == 1_000_000


def test_a_million_distinct_texts_have_a_profile(tmp_path: Path) -> None:
    n = 1_000_000
    ids = pl.int_range(n, eager=True)
    rows = pl.LazyFrame(
        {
            "x": ids.cast(pl.String),
            "age": ids % 90,
            "defaulted": ids % 2,
            "_etl_ml_row": ids.cast(pl.String).str.zfill(32) + "-0",
            "_etl_ml_original": pl.Series([None], dtype=pl.String).new_from_index(0, n),
        }
    )
    found = validate(rows, pipeline_of({"x": {"type": "string"}}), folder=tmp_path)
    told = found.profile["columns"]["x"]
    assert (found.report["valid_rows"], told["count"], told["nulls"]) == (n, n, 0)
    assert told["distinct"] == pytest.approx(n, rel=0.09)
    assert found.profile["columns"]["age"]["mean"] == pytest.approx(float((ids % 90).mean()))  # type: ignore[arg-type]


def test_moments_of_mixed_zones_are_one_moment(tmp_path: Path) -> None:
    texts = [
        "2020-01-01T12:00+02:00",
        "2020-01-01T10:00Z",
        "2020-01-01 10:00",
        "2020-01-01T05:00-05:00",
    ]
    found = both_ways(rows_of(x=texts * 2), pipeline_of({"x": {"type": "datetime"}}), tmp_path)
    assert found.valid.collect()["x"].n_unique() == 1
    assert found.profile["columns"]["x"]["distinct"] == 1


CELLS = st.sampled_from(["1", "2", "3.0", "x", "", "99", " 7 ", "1e2", "-0", "nan", "é"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=40))
def test_every_row_that_was_read_is_valid_quarantined_or_superseded(
    cells: list[tuple[str, str, str]],
) -> None:
    columns: dict[str, Any] = {
        "k": {"type": "string"},
        "x": {"type": "integer", "max": 50, "unique": True},
        "z": {"type": "float", "nullable": False},
    }
    pipeline = pipeline_of(columns, key=["k"])
    contract = pipeline.contract.model_copy(update={"rules": ("x <= z",)})
    k, x, z = zip(*cells, strict=True)
    checked(rows_of(k=k, x=x, z=z), pipeline.model_copy(update={"contract": contract}))
