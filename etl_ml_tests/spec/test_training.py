"""Gates, candidates and metrics."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from etl_ml.spec.evaluation import Evaluation
from etl_ml.spec.parse import InvalidPipeline
from etl_ml.spec.training import CANDIDATES, LOSSES, METRICS, Metric, Training
from etl_ml_tests.conftest import make_pipeline


def test_the_metrics_are_those_of_the_documentation() -> None:
    assert set(METRICS["regression"]) == {"r2", "mae", "rmse", "mape"}
    assert set(METRICS["classification"]) == {
        "accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "f1",
        "roc_auc",
        "average_precision",
        "log_loss",
        "brier",
        "mcc",
    }
    assert set(LOSSES) == {"log_loss", "brier", "mae", "rmse", "mape"}


@pytest.mark.parametrize("name", sorted({name for names in CANDIDATES.values() for name in names}))
def test_every_candidate_is_known_by_its_name(name: str) -> None:
    plain, null, given = (
        Training.model_validate({"candidates": [name, {name: None}, {name: {"p": 1}}]}).candidates
        or ()
    )
    assert (plain.name, plain.params) == (null.name, null.params) == (name, {})
    assert (given.name, given.params) == (name, {"p": 1})


@pytest.mark.parametrize(
    "score", sorted({m for names in METRICS.values() for m in names} - set(LOSSES))
)
def test_a_score_above_one_can_never_be_met(score: Metric) -> None:
    with pytest.raises(ValidationError, match="can never be met"):
        Evaluation(gates={score: 1.001})
    assert Evaluation(gates={score: 1.0}).gates[score] == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_below_zero_can_never_be_met(loss: Metric) -> None:
    with pytest.raises(ValidationError, match="can never be met"):
        Evaluation(gates={loss: -0.001})
    assert Evaluation(gates={loss: 3.0}).gates[loss] == 3


@pytest.mark.parametrize("limit", [math.nan, math.inf, -math.inf])
def test_a_gate_is_a_number(limit: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Evaluation(gates={"f1": limit})


def test_the_target_is_no_slice_and_a_tracker_has_an_address() -> None:
    with pytest.raises(InvalidPipeline, match="the target is no slice"):
        make_pipeline(evaluation={"slices": ["defaulted"]})
    with pytest.raises(InvalidPipeline, match=r"training\.tracking\.mlflow"):
        make_pipeline(training={"tracking": {"mlflow": ""}})
