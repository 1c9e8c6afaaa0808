"""What the metrics of classifiers and of regressors have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Measured:
    """One model's answers on n rows; a metric is a method `_<metric>` of weights (b, n).

    Attributes
    ----------
    target : array (n,)
    """

    target: Array

    def __call__(self, metric: str, weights: Array | None = None) -> Array:
        """The metric for each row of weights: array (b,), NaN where it is not defined."""
        rows = np.ones((1, len(self.target))) if weights is None else weights
        with np.errstate(divide="ignore", invalid="ignore"):
            value: Array = getattr(self, f"_{metric}")(rows)
        return value

    def value(self, metric: str) -> float:
        """The metric with every row counted once."""
        return float(self(metric)[0])


def weighted_mean(values: Array, weights: Array) -> Array:
    """The mean of values (n,) for each row of weights (b, n): array (b,)."""
    mean: Array = (weights @ values) / weights.sum(axis=1)
    return mean
