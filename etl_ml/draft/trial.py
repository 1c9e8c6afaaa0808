"""A drafted pipeline is tried on the sample: checked, split and folded, as a run would."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from etl_ml.lake.identity import ROW
from etl_ml.spec import Pipeline, parse
from etl_ml.spec.error import EtlMlError, listed
from etl_ml.train.folds import folds_of
from etl_ml.transform.split import split
from etl_ml.transform.target_leakage import give_away
from etl_ml.transform.transform import classes_of, encoded
from etl_ml.validate.inputs import check_inputs
from etl_ml.validate.target import check_range, check_target

_MOST = 20_000


@dataclass(frozen=True)
class Tried:
    """What came of it.

    Attributes
    ----------
    attributes : the pipeline's, with a split that works and without columns that leak
    leaks : columns that give the target away, and how
    """

    attributes: dict[str, Any]
    leaks: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def tried(attributes: dict[str, Any], sample: pl.DataFrame) -> Tried:
    """Find a split that the sample bears, and the columns that say too much."""
    pipeline = parse(attributes, file="defs.yaml")
    rows = _valid(pipeline, sample)
    if problem := _target_problem(pipeline, rows):
        return Tried(attributes, problems=[problem])
    features = pipeline.features_of()
    classes = classes_of(rows[pipeline.target.column], pipeline)
    target = encoded(rows[pipeline.target.column], classes)
    leaks = give_away(rows, features, target, classes=len(classes))
    chosen, notes = copy.deepcopy(attributes), []
    if leaks and len(leaks) < len(features):
        section = chosen.setdefault("features", {})
        section["exclude"] = [*section.get("exclude", []), *leaks]
        told = "; ".join(f"{name}: {how}" for name, how in leaks.items())
        notes.append(
            f"{listed(leaks)} may be known only when the target is ({told}), and no feature "
            "therefore; take it out of features.exclude if it is known before."
        )
    else:
        leaks = {}
    refused = ""
    for settings in _splits(chosen.get("split", {}), pipeline):
        asked = {key: value for key, value in chosen.items() if key != "split"}
        if settings:
            asked["split"] = settings
        try:
            _split_and_fold(parse(asked, file="defs.yaml"), rows)
        except EtlMlError as error:
            refused = refused or error.what
            continue
        if refused:
            notes.append(f"The split was chosen because with another one: {refused}")
        return Tried(asked, leaks, notes)
    return Tried(chosen, leaks, notes, [f"no split works: {refused}"])


def _splits(drafted: dict[str, Any], pipeline: Pipeline) -> list[dict[str, Any]]:
    plain: list[dict[str, Any]] = [
        {},
        {"strategy": "stratified"},
        {"strategy": "stratified", "test_size": 0.3},
        {"strategy": "stratified", "test_size": 0.4},
    ]
    if pipeline.contract.primary_key:
        plain.append({"strategy": "stratified", "keep_duplicates_together": False})
    return [drafted, *plain] if drafted else plain


def _valid(pipeline: Pipeline, sample: pl.DataFrame) -> pl.DataFrame:
    """Rows that keep the contract, typed, with an identity."""
    required = pipeline.required()
    columns = {
        name: column.model_copy(update={"nullable": column.nullable and name not in required})
        for name, column in pipeline.contract.columns.items()
    }
    if len(sample) > _MOST:
        sample = sample.sample(_MOST, seed=pipeline.split.seed)
    checked = check_inputs(sample, columns, pipeline.source.null_values)
    rows = checked.values.filter(checked.good)
    names = pl.Series(ROW, [f"{place:08}" for place in range(len(rows))])
    return rows.with_columns(names)


def _target_problem(pipeline: Pipeline, rows: pl.DataFrame) -> str | None:
    target = rows[pipeline.target.column]
    if not len(rows):
        return "no row keeps the contract"
    if pipeline.target.task == "regression":
        found = check_range(target.min(), target.max(), pipeline)  # type: ignore[arg-type]
    else:
        found = check_target(dict(target.value_counts().sort(target.name).iter_rows()), pipeline)
    return found.get("target")


def _split_and_fold(pipeline: Pipeline, rows: pl.DataFrame) -> None:
    """Raise what a run would raise."""
    sides = split(rows, pipeline)
    classes = classes_of(rows[pipeline.target.column], pipeline)
    target = encoded(rows[pipeline.target.column], classes)
    order = None if sides.order is None else sides.order[sides.train].astype(np.int64)
    folds_of(target[sides.train], sides.units[sides.train], classes, pipeline, order)
