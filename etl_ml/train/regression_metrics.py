"""Metrics of predicted numbers, for one weighting of the rows or for a thousand at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from etl_ml.train.measured import Measured, weighted_mean

Array = np.ndarray[Any, Any]


class RegressionScores(Measured):
    """The metrics of one model's predictions; with equal weights the values are scikit-learn's.

    Parameters
    ----------
    target, predicted : float arrays (n,)
    """

    classes = 0

    def __init__(self, target: Array, predicted: Array) -> None:
        self.target = np.asarray(target, np.float64)
        self.predicted = np.asarray(predicted, np.float64).ravel()
        self._residual = self.target - self.predicted

    @property
    def answers(self) -> Array:
        """What the model said: float64 array (n,)."""
        return self.predicted

    def on(self, rows: Array) -> RegressionScores:
        """The same model on some of the rows: bool or int array."""
        return RegressionScores(self.target[rows], self.predicted[rows])

    def _r2(self, weights: Array) -> Array:
        total = weights.sum(axis=1)
        mean = (weights @ self.target) / total
        # Around the mean of all, so that large numbers do not cancel.
        shifted = self.target - self.target.mean()
        spread = weights @ shifted**2 - total * (mean - self.target.mean()) ** 2
        explained: Array = 1 - (weights @ self._residual**2) / np.where(spread > 0, spread, np.nan)
        return explained

    def _mae(self, weights: Array) -> Array:
        return weighted_mean(np.abs(self._residual), weights)

    def _rmse(self, weights: Array) -> Array:
        return np.sqrt(weighted_mean(self._residual**2, weights))

    def _mape(self, weights: Array) -> Array:
        tiny = np.finfo(np.float64).eps
        return weighted_mean(
            np.abs(self._residual) / np.maximum(np.abs(self.target), tiny), weights
        )
