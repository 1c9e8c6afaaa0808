"""Labels that come later: which prediction each belongs to, and how good the predictions were.

A label belongs to the first prediction of its row by each version of the model. Rows that a version
was trained on say nothing about it, and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from etl_ml.deploy import champion
from etl_ml.deploy.registry import NoChampion
from etl_ml.lake import Contents, Lake, MissingVersion, Run, Version
from etl_ml.lake.identity import ROW
from etl_ml.monitor.performance import Judged, Period, report_of
from etl_ml.spec.contract import Column
from etl_ml.spec.error import EtlMlError, bounded, listed
from etl_ml.validate.casting import cast, present

ASSET = "performance"
REPORT = "performance_report.json"
_PROBABILITY = "probability_"
_LABEL = "label"
_PLACE = "_etl_ml_place"


class UnusableLabels(EtlMlError):
    """Labels of which it cannot be told what they are, or which rows they are of."""


@dataclass(frozen=True)
class Taken:
    """What became of n labels.

    Attributes
    ----------
    rows : n
    new : labels of predicted rows that were not known, or known otherwise
    unknown : of rows that nobody has predicted, as far as the lake has it
    unreadable : no label of the model
    contradictory : of rows that have several labels
    report : what `performance_report.json` holds; None where no label belongs to a prediction
    """

    rows: int
    new: int
    unknown: int
    unreadable: int
    contradictory: int
    report: dict[str, Any] | None


def add_labels(lake: Lake, pipeline: str, labels: pl.DataFrame, *, by: Period = "week") -> Taken:
    """Join labels with the predictions that the lake has, and judge these anew.

    All labels that are known, and the report, are the next version of `performance`.

    Parameters
    ----------
    labels : frame with the target's column, and `_etl_ml_row` or the columns of the pipeline's
        key, in any types; other columns do not matter
    by : the stretches of time that are told apart, by when a row was predicted

    Raises
    ------
    NoChampion, MissingVersion
        There is no model, or no version of `predictions`.
    UnusableLabels
        A column is missing, or no label is one of the model's.
    """
    package = champion(lake, pipeline)
    if package is None:
        raise NoChampion(
            f"{pipeline}: there is no model whose predictions could be judged.",
            where=lake.url,
            fix=f"materialize {pipeline}/deployed_model",
        )
    signature = json.loads(package.read("signature.json"))
    target, key = signature["output"]["column"], signature["key"]
    joined = _joined_by(labels.columns, target, key)
    versions = [
        lake.open(pipeline, "predictions", v) for v in lake.versions(pipeline, "predictions")
    ]
    if not versions:
        raise MissingVersion(
            f"{pipeline} has no version of predictions to judge.",
            where=lake.url,
            fix="set `predictions: {}` in its defs.yaml, and materialize predictions",
        )
    given = _readable(labels, target, joined, signature)
    found, unknown = _resolved(given, joined, versions)
    contradictory = found.group_by(ROW).len().filter(pl.col("len") > 1)
    found = found.join(contradictory, on=ROW, how="anti")
    before = lake.latest(pipeline, ASSET)
    last = lake.open(pipeline, ASSET, before) if before else None
    known = last.table.to_polars() if last else found.clear()
    if known.schema[_LABEL] != found.schema[_LABEL]:  # labels of another task
        known, last = found.clear(), None
    new = found.join(known, on=[ROW, _LABEL], how="anti")
    known = pl.concat([known.join(new, on=ROW, how="anti"), new])
    counts = {
        "rows": len(labels),
        "new": len(new),
        "unknown": unknown,
        "unreadable": len(labels) - given.height,
        "contradictory": int(contradictory["len"].sum()),
    }
    if known.is_empty():
        return Taken(**counts, report=None)
    judged = list(_judged(lake, pipeline, versions, known))
    report = report_of(judged, lake, pipeline, by=by, before=last.read(REPORT) if last else None)
    upstream = {"predictions": versions[-1].version}
    lake.write(pipeline, ASSET, Contents(known.lazy(), {REPORT: report}), upstream=upstream)
    return Taken(**counts, report=report)


def _joined_by(columns: Sequence[str], target: str, key: Sequence[str]) -> list[str]:
    """What a label's row is known by."""
    if target not in columns:
        raise UnusableLabels(
            f"the labels have no column {target!r}, which is the model's target.",
            seen=f"their columns are {listed(columns)}",
            fix=f"name the column with the labels {target!r}",
        )
    if ROW in columns:
        return [ROW]
    missing = [name for name in key if name not in columns]
    if missing or not key:
        what = f"no column {listed(map(repr, missing))}" if key else f"no column {ROW!r}"
        raise UnusableLabels(
            f"the labels have {what}: it cannot be told which rows they are of.",
            seen=f"their columns are {listed(columns)}",
            fix=f"give {listed(map(repr, key))}, or {ROW!r} as the predictions have it"
            if key
            else f"give {ROW!r} as the predictions have it",
        )
    return list(key)


def _readable(
    labels: pl.DataFrame, target: str, joined: Sequence[str], signature: dict[str, Any]
) -> pl.DataFrame:
    """The labels that are of the model, as text or as numbers, and what their rows are known by.

    Raises
    ------
    UnusableLabels
        None of them is.
    """
    classes = signature["output"]["classes"]
    column = Column(type=_type_of(classes))
    source = labels.schema[target]
    content, _ = present(pl.col(target), source, signature["null_values"])
    values = labels.select(cast(content, source, column)).to_series()
    if classes:
        values = pl.Series([None if v is None else str(v) for v in values], dtype=pl.String)
        values = values.set(~values.is_in(list(map(str, classes))).fill_null(True), None)
    found = labels.select(joined).with_columns(values.alias(_LABEL)).drop_nulls()
    if found.is_empty():
        seen = next(iter(labels[target].drop_nulls()), None)
        expected = f"one of {listed(map(repr, classes))}" if classes else "a number"
        raise UnusableLabels(
            f"none of the {len(labels):,} labels is {expected}, with a row that it is of.",
            seen=f"{target} {bounded(seen, 40)}",
            fix="give the labels as the training data has them",
        )
    return found


def _type_of(classes: Sequence[Any]) -> Any:
    if not classes:
        return "float"
    kinds = {bool: "boolean", int: "integer", float: "float"}
    return kinds.get(type(classes[0]), "string")


def _resolved(
    given: pl.DataFrame, joined: Sequence[str], versions: Sequence[Version]
) -> tuple[pl.DataFrame, int]:
    """Labels by the row that was predicted: `_etl_ml_row` and `label`, each pair once; and how many
    labels are of no such row.
    """
    found = []
    given = given.with_row_index(_PLACE)
    for version in versions:
        rows = version.table.scan()
        schema = rows.collect_schema()
        asked = given.lazy().with_columns(
            pl.col(name).cast(schema[name], strict=False) for name in joined
        )
        # Only what was predicted: a row that breaks the contract was not.
        rows = rows.filter(pl.col("prediction").is_not_null()).select({*joined, ROW})
        both = rows.join(asked, on=list(joined), how="inner", nulls_equal=False)
        found.append(both.select(ROW, _LABEL, _PLACE).collect(engine="streaming"))
    resolved = pl.concat(found)
    return resolved.select(ROW, _LABEL).unique(), given.height - resolved[_PLACE].n_unique()


def _judged(
    lake: Lake, pipeline: str, versions: Sequence[Version], known: pl.DataFrame
) -> Iterator[Judged]:
    """The first prediction of each labelled row by each model, with its label, by model."""
    parts: dict[str, list[pl.DataFrame]] = {}
    for version in versions:
        at = datetime.fromisoformat(version.manifest.created_at)
        rows = version.table.scan().join(known.lazy(), on=ROW, how="inner")
        frame = rows.filter(pl.col("prediction").is_not_null()).collect(engine="streaming")
        for (model,), part in frame.group_by("model_version", maintain_order=True):
            parts.setdefault(str(model), []).append(part.with_columns(at=pl.lit(at)))
    for model, several in sorted(parts.items()):
        first = pl.concat(several, how="diagonal_relaxed").sort("at").unique(ROW, keep="first")
        trained_on = _trained_on(lake, pipeline, model)
        if trained_on is None:
            continue
        unseen = first.filter(~pl.col(ROW).is_in(trained_on.implode())).sort("at", ROW)
        if len(unseen):
            yield _of_model(model, unseen, len(first) - len(unseen))


def _of_model(model: str, rows: pl.DataFrame, left_out: int) -> Judged:
    names = [name for name in rows.columns if name.startswith(_PROBABILITY)]
    if not names:
        answers = rows["prediction"].cast(pl.Float64).to_numpy()
        return Judged(model, rows["at"], rows[_LABEL].to_numpy(), answers, None, left_out)
    places = {name.removeprefix(_PROBABILITY): place for place, name in enumerate(names)}
    labels = np.array([places.get(label, -1) for label in rows[_LABEL]])
    predicted = np.array([places.get(str(label), -1) for label in rows["prediction"].to_list()])
    # A label that this version did not know yet is one it cannot have said.
    fits = (labels >= 0) & (predicted >= 0)
    answers = rows.select(names).to_numpy()[fits]
    at = rows["at"].filter(pl.Series(fits))
    return Judged(model, at, labels[fits], answers, predicted[fits], left_out)


def _trained_on(lake: Lake, pipeline: str, model: str) -> pl.Series | None:
    """The rows that a version was trained on; None where the lake has forgotten them."""
    try:
        lineage = Run(lake, pipeline, "").closure("trained_model", model)
        arrays = lake.open(pipeline, "transformed_arrays", lineage["transformed_arrays"])
        return pl.Series(arrays.read("train_rows.npy"))
    except (MissingVersion, KeyError):
        return None
