"""Two evaluated models in a lake, and their deployment without Dagster."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from etl_ml.deploy import Package, Target, deploy
from etl_ml.deploy.deploy import Deployment
from etl_ml.lake import Lake
from etl_ml.spec import Pipeline
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.train.stages import Versions

ASSETS = (
    "raw_data",
    "validated_data",
    "clean_data",
    "transformed_arrays",
    "trained_model",
    "model_evaluation",
)
FIRST, SECOND = "0000000001", "0000000002"


def versions(lake: Lake, number: int = 1, evaluation: int | None = None) -> Versions:
    """What belongs to a model."""
    numbers = {"trained_model": number, "model_evaluation": evaluation or number}
    return {a: lake.open("loans", a, numbers.get(a, 1)) for a in ASSETS}


def second(lake: Lake) -> Versions:
    """The second model of a `ready` lake, with its comparison with the first."""
    return versions(lake, 2, evaluation=3)


def run(
    lake: Lake,
    made: Versions,
    pipeline: Pipeline | None = None,
    targets: Sequence[Target] = (),
) -> Deployment:
    """Deploy a model."""
    return deploy(
        lake,
        pipeline or make_pipeline(),
        made["trained_model"],
        made["model_evaluation"],
        made["transformed_arrays"],
        made["clean_data"],
        targets=targets,
        run_id="run",
    )


def answering(monkeypatch: pytest.MonkeyPatch, difference: float = 0.0) -> None:
    """Spare the fresh process where it is not what is tested; the package is read all the same."""

    def answer(package: Package, *asked: object) -> float:
        for name in package.files:
            package.read(name)
        return difference

    monkeypatch.setattr(sys.modules["etl_ml.deploy.push"], "largest_difference", answer)
