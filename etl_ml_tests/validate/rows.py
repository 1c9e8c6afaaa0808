"""Rows as extraction gives them, and a pipeline for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from etl_ml.spec import Pipeline
from etl_ml.validate import Validation, validate
from etl_ml_tests.conftest import make_pipeline


def pipeline_of(columns: Mapping[str, Any], key: Sequence[str] = (), **validation: Any) -> Pipeline:
    columns = {
        **columns,
        "age": {"type": "integer"},
        "defaulted": {"type": "integer", "allowed": [0, 1]},
    }
    limits = {"max_quarantined": 1.0, "min_rows": 0, **validation}
    return make_pipeline(contract={"columns": columns, "primary_key": list(key)}, validation=limits)


def rows_of(**columns: Sequence[Any] | pl.Series) -> pl.LazyFrame:
    n = len(next(iter(columns.values())))
    rest: dict[str, Any] = {"age": ["30"] * n, "defaulted": [str(i % 2) for i in range(n)]}
    internal = {
        "_etl_ml_row": [f"{i:04d}" for i in range(n)],
        "_etl_ml_original": pl.Series([None] * n, dtype=pl.String),
    }
    return pl.LazyFrame({**rest, **columns, **internal})


def checked(rows: pl.LazyFrame, pipeline: Pipeline) -> tuple[Validation, dict[str, list[str]]]:
    """The validation, and every quarantined row's reasons; what always holds is asserted."""
    result = validate(rows, pipeline)
    valid, bad = result.valid.collect(), result.quarantined.collect()
    read = rows.collect()
    report = result.report
    assert report["rows"] == read.height
    assert report["valid_rows"] == valid.height
    assert report["quarantined_rows"] == bad.height
    assert (
        report["valid_rows"] + report["quarantined_rows"] + report["superseded_rows"] == read.height
    )
    ids = [*valid["_etl_ml_row"], *bad["_etl_ml_row"]]
    assert len(set(ids)) == len(ids)
    as_read = read.filter(pl.col("_etl_ml_row").is_in(bad["_etl_ml_row"].implode()))
    assert as_read.sort("_etl_ml_row").equals(
        bad.drop("_reasons").select(read.columns).sort("_etl_ml_row")
    )
    return result, dict(zip(bad["_etl_ml_row"], bad["_reasons"].to_list(), strict=True))
