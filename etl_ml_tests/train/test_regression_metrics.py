"""Metrics of numbers against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from etl_ml.train.metrics import bootstrap
from etl_ml.train.regression_metrics import RegressionScores

RNG = np.random.default_rng(0)
TARGET = RNG.normal(1e6, 3, 300)
PREDICTED = TARGET + RNG.normal(0, 1, 300)
PEERS = {
    "r2": sk.r2_score,
    "mae": sk.mean_absolute_error,
    "rmse": sk.root_mean_squared_error,
    "mape": sk.mean_absolute_percentage_error,
}


@pytest.mark.parametrize("metric", PEERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_metric_is_scikit_learns(metric: str, weighted: bool) -> None:
    scores = RegressionScores(TARGET, PREDICTED)
    weights = RNG.integers(0, 4, 300).astype(float) if weighted else None
    found = scores(metric, None if weights is None else weights[None])[0]
    assert found == pytest.approx(PEERS[metric](TARGET, PREDICTED, sample_weight=weights), rel=1e-9)


def test_the_interval_of_the_mean_error_is_that_of_the_normal_theory() -> None:
    drawn = bootstrap([RegressionScores(TARGET, PREDICTED)], ["mae"], np.arange(300), seed=0)[0, 0]
    error = np.abs(TARGET - PREDICTED)
    assert drawn.std() == pytest.approx(error.std() / np.sqrt(300), rel=0.1)


def test_one_value_has_no_r2() -> None:
    assert np.isnan(RegressionScores(np.ones(10), np.zeros(10)).value("r2"))
