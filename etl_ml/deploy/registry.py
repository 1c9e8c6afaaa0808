"""The champion: which package it is, and what a challenger must know of it."""

from __future__ import annotations

from etl_ml.deploy.package import Package, open_package
from etl_ml.evaluate import Incumbent
from etl_ml.lake import Lake, Log

_HISTORY = 20


def champion(lake: Lake, pipeline: str) -> Package | None:
    """The package that is champion now, or None."""
    head = Log(lake, pipeline).head()
    return open_package(lake, pipeline, head.version) if head else None


def incumbent(lake: Lake, pipeline: str, metric: str) -> Incumbent | None:
    """The champion with its training rows and the scores of the champions before it."""
    package = champion(lake, pipeline)
    if package is None:
        return None
    arrays = lake.open(pipeline, "transformed_arrays", package.lineage["transformed_arrays"])
    past = Log(lake, pipeline).entries(last=_HISTORY)
    return Incumbent(
        version=package.version,
        model=package.model,
        trained_on=arrays.read("train_rows.npy"),
        history=tuple(entry.value for entry in past if entry.metric == metric),
    )
