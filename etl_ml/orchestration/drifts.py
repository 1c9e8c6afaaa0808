"""Drift that asks for a training: found by a run, answered once for each reference."""

from __future__ import annotations

from etl_ml.lake import Lake, Version
from etl_ml.lake.backend import AlreadyExists
from etl_ml.lake.documents import dump_json
from etl_ml.spec.pipeline import Pipeline


def drifted_from(lake: Lake, pipeline: Pipeline) -> str | None:
    """The reference that the newest valid rows have drifted from, None where they have not."""
    version = lake.latest(pipeline.name, "validated_data")
    return _drift(lake.open(pipeline.name, "validated_data", version)) if version else None


def has_retrained(lake: Lake, pipeline: str, reference: str) -> bool:
    """Whether a model was trained and judged on rows that had drifted from a reference."""
    return lake.backend.get(_record(pipeline, reference)) is not None


def note_training(lake: Lake, pipeline: str, validated: Version, model: str) -> None:
    """Remember that a model was judged, if the rows that it descends from had drifted."""
    reference = _drift(validated)
    if reference is None:
        return
    try:
        lake.backend.create(_record(pipeline, reference), dump_json({"trained_model": model}))
    except AlreadyExists:
        return  # by an earlier model


def _drift(validated: Version) -> str | None:
    report = validated.read("drift_report.json")
    return str(report["reference"]) if report["drifted"] else None


def _record(pipeline: str, reference: str) -> str:
    return f"{pipeline}/retrained/{reference}.json"
