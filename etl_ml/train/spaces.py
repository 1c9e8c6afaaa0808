"""What is searched where a pipeline names no list or range of its own."""

from __future__ import annotations

import math

from etl_ml.spec.training import Candidate, Range, Scalar

Space = dict[str, tuple[Scalar, ...] | Range]


def _log(low: float, high: float) -> Range:
    return Range(low=low, high=high, log=True)


_TREES: Space = {
    "max_depth": (None, 6, 10, 16),
    "min_samples_leaf": _log(1, 20),
    "max_features": ("sqrt", 0.3, 0.6, 1.0),
}
_NEIGHBOURS: Space = {"n_neighbors": _log(1, 50), "weights": ("uniform", "distance")}
_SPACES: dict[str, Space] = {
    "logistic_regression": {"C": _log(0.001, 100.0)},
    "ridge": {"alpha": _log(0.001, 1000.0)},
    "lasso": {"alpha": _log(0.0001, 10.0)},
    "elastic_net": {"alpha": _log(0.0001, 10.0), "l1_ratio": Range(low=0.05, high=0.95)},
    "decision_tree": {"max_depth": Range(low=2, high=20), "min_samples_leaf": _log(1, 50)},
    "random_forest": _TREES,
    "extra_trees": _TREES,
    "gradient_boosting": {
        "learning_rate": _log(0.01, 0.3),
        "n_estimators": _log(50, 500),
        "max_depth": Range(low=2, high=6),
    },
    "hist_gradient_boosting": {
        "learning_rate": _log(0.01, 0.3),
        "max_leaf_nodes": _log(7, 127),
        "min_samples_leaf": _log(5, 100),
        "l2_regularization": _log(0.001, 10.0),
    },
    "adaboost": {"n_estimators": _log(50, 300), "learning_rate": _log(0.05, 2.0)},
    "k_nearest_neighbors": _NEIGHBOURS,
    "svm": {"C": _log(0.01, 100.0), "gamma": _log(0.0001, 1.0)},
    "lightgbm": {
        "learning_rate": _log(0.01, 0.3),
        "n_estimators": _log(50, 500),
        "num_leaves": _log(7, 127),
        "min_child_samples": _log(5, 100),
        "reg_lambda": _log(0.001, 10.0),
        "colsample_bytree": Range(low=0.5, high=1.0),
    },
    "xgboost": {
        "learning_rate": _log(0.01, 0.3),
        "n_estimators": _log(50, 500),
        "max_depth": Range(low=2, high=10),
        "min_child_weight": _log(0.5, 20.0),
        "reg_lambda": _log(0.001, 10.0),
        "colsample_bytree": Range(low=0.5, high=1.0),
    },
    "catboost": {
        "learning_rate": _log(0.01, 0.3),
        "iterations": _log(50, 500),
        "depth": Range(low=4, high=8),
        "l2_leaf_reg": _log(1.0, 10.0),
    },
}


def grid_of(candidate: Candidate, most: int) -> dict[str, tuple[Scalar, ...]]:
    """The candidate's own lists; if it has none, its usual lists, and three points of its ranges.

    Of the usual ones as many, in their order, as make a grid of up to `most` points.
    """
    if own := candidate.space():
        return {name: values for name, values in own.items() if isinstance(values, tuple)}
    grid: dict[str, tuple[Scalar, ...]] = {}
    size = 1
    for name, values in space_of(candidate).items():
        points = values if isinstance(values, tuple) else _points(values)
        if size * len(points) <= most:
            grid[name] = points
            size *= len(points)
    return grid


def _points(values: Range) -> tuple[Scalar, ...]:
    """Both ends and the middle; of a logarithmic range the geometric one."""
    low, high = values.low, values.high
    middle = math.sqrt(low * high) if values.log else (low + high) / 2
    found = (low, middle, high)
    return tuple(dict.fromkeys(map(round, found))) if values.whole else found


def space_of(candidate: Candidate) -> Space:
    """The candidate's own lists and ranges; if it has none, the usual ones less what it fixes."""
    own = candidate.space()
    if own:
        return own
    fixed = candidate.fixed()
    return {name: v for name, v in _SPACES.get(candidate.name, {}).items() if name not in fixed}
