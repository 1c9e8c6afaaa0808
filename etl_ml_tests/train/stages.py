"""The stages one after the other into a lake, as the assets call them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from etl_ml.deploy import incumbent
from etl_ml.evaluate import evaluate
from etl_ml.lake import Contents, Lake, Version
from etl_ml.spec import Pipeline
from etl_ml.train import train
from etl_ml.transform import clean, transform
from etl_ml.validate import validate
from etl_ml_tests.transform.frames import identified

Versions = dict[str, Version]


def prepare(lake: Lake, pipeline: Pipeline, raw: pl.DataFrame) -> Versions:
    """From rows as they were read to arrays."""
    rows = raw if "_etl_ml_row" in raw.columns else identified(raw)
    rows = rows.with_columns(pl.lit(None, pl.String).alias("_etl_ml_original"))
    made: Versions = {}
    _write(lake, pipeline, made, "raw_data", Contents(rows.lazy()))
    checked = validate(made["raw_data"].table.scan(), pipeline)
    assert checked.passed, checked.problems
    reports = {"profile.json": checked.profile, "validation_report.json": checked.report}
    _write(lake, pipeline, made, "validated_data", Contents(checked.valid, reports), "raw_data")
    cleaned = clean(made["validated_data"].table.scan(), pipeline.cleaning)
    files = {"clean.jsonl.gz": cleaned.write_json, "cleaning_report.json": cleaned.report}
    _write(lake, pipeline, made, "clean_data", Contents(cleaned.rows, files), "validated_data")
    arrays = transform(made["clean_data"].table.scan(), pipeline)
    assert not arrays.problems
    _write(lake, pipeline, made, "transformed_arrays", Contents(files=arrays.files()), "clean_data")
    return made


def fit(lake: Lake, pipeline: Pipeline, made: Versions) -> Versions:
    """With a trained model."""
    trained = train(made["transformed_arrays"], pipeline)
    files = Contents(files=trained.files())
    return _write(lake, pipeline, dict(made), "trained_model", files, "transformed_arrays")


def judge(lake: Lake, pipeline: Pipeline, made: Versions) -> Versions:
    """With its evaluation against the champion of now."""
    arrays, rows = made["transformed_arrays"], made["clean_data"]
    champion = incumbent(lake, pipeline)
    found = evaluate(made["trained_model"], arrays, rows, pipeline, champion)
    files = Contents(files=found.files())
    return _write(lake, pipeline, dict(made), "model_evaluation", files, "trained_model")


def _write(
    lake: Lake, pipeline: Pipeline, made: Versions, asset: str, contents: Contents, *above: str
) -> Versions:
    upstream: Mapping[str, Any] = {name: made[name].version for name in above}
    made[asset] = lake.write(pipeline.name, asset, contents, upstream=upstream)
    return made
