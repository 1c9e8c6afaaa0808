"""The champion: which package it is, and what a challenger must know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl_ml.deploy.package import Package, open_package
from etl_ml.lake import Lake, Log, Run
from etl_ml.lake.estimator import UntrustedModel
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    from etl_ml.evaluate import Incumbent
    from etl_ml.train.model import Model

_HISTORY = 20


class NoChampion(EtlMlError):
    """A pipeline that has no champion, or none before this one."""


def champion(lake: Lake, pipeline: str) -> Package | None:
    """The package that is champion now, or None."""
    head = Log(lake, pipeline).head()
    return open_package(lake, pipeline, head.version) if head else None


def before(lake: Lake, pipeline: str) -> str:
    """The version that was champion before the one that is: where a rollback leads.

    One that was rolled back from is never led to: of 1, 2, 3 and back to 2, the next is 1.

    Raises
    ------
    NoChampion
    """
    history = [entry.version for entry in Log(lake, pipeline).entries()]
    first = history.index(history[-1]) if history else 0
    if first == 0:
        known = f"{history[-1]} is the first champion" if history else "no model was deployed yet"
        raise NoChampion(
            f"{pipeline}: there is no champion before this one: {known}.",
            where=f"{lake.url}/{pipeline}/registry/log",
            fix=f"name a version yourself: etl-ml promote {pipeline} VERSION",
        )
    return history[first - 1]


def champion_lineage(lake: Lake, pipeline: str) -> dict[str, str] | None:
    """Version by asset of all that the champion descends from, itself included; or None.

    It is read from the versions, not from the package: a package that is damaged keeps nobody from
    training and deploying the next model.
    """
    head = Log(lake, pipeline).head()
    if head is None:
        return None
    above = Run(lake, pipeline, "").closure("trained_model", head.version)
    return {**above, "trained_model": head.version}


def incumbent(lake: Lake, pipeline: Pipeline) -> Incumbent | None:
    """The champion with its training rows and the scores of the champions before it.

    One that holds what is not trusted here any more is not loaded: it says so where it is compared.
    """
    from etl_ml.evaluate import Incumbent
    from etl_ml.train import load_model

    name, metric = pipeline.name, pipeline.metric
    lineage = champion_lineage(lake, name)
    if lineage is None:
        return None
    arrays = lake.open(name, "transformed_arrays", lineage["transformed_arrays"])
    past = Log(lake, name).entries(last=_HISTORY)
    stored = lake.open(name, "trained_model", lineage["trained_model"])
    model: Model | UntrustedModel
    try:
        model = load_model(stored, pipeline)
    except UntrustedModel as error:
        model = error
    return Incumbent(
        version=lineage["trained_model"],
        model=model,
        trained_on=arrays.read("train_rows.npy"),
        history=tuple(entry.value for entry in past if entry.metric == metric),
    )
