"""How an estimator is fitted: class weights, early stopping and calibration around it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.training import Candidate
from etl_ml.train.candidates import BOOSTED, EARLY_STOPPING, UnknownParameter, build, innermost
from etl_ml.transform.split import shuffled

Array = np.ndarray[Any, Any]

_INNER_FOLDS = 3
_HELD_BACK = 0.1
_TREES = {"lightgbm": "n_estimators", "xgboost": "n_estimators", "catboost": "iterations"}


@dataclass(frozen=True)
class Fitter:
    """A candidate with its parameters, ready to be fitted as often as there are folds.

    Attributes
    ----------
    estimator : unfitted, and never fitted itself
    stop_after : rounds without gain after which boosting ends; None without early stopping
    weighted : whether each class weighs the same, by weights of the rows
    calibrate : none, sigmoid or isotonic
    """

    name: str
    estimator: Any
    stop_after: int | None
    weighted: bool
    calibrate: str
    seed: int

    @classmethod
    def of(
        cls, candidate: Candidate, params: Mapping[str, Any], pipeline: Pipeline, *, cells: int
    ) -> Fitter:
        """Build the estimator.

        Raises
        ------
        UnknownParameter, UnknownEstimator
            Nothing has been fitted.
        """
        wanted = pipeline.training
        estimator = build(
            candidate, params, task=pipeline.target.task, seed=wanted.seed, cells=cells
        )
        by_rows = False
        if wanted.class_weight == "balanced":
            inner = innermost(estimator)
            if "class_weight" in inner.get_params(deep=False):
                inner.set_params(class_weight="balanced")
            else:
                by_rows = True
                _takes_weights(candidate.name, inner)
        stop_after = params.get(EARLY_STOPPING) if candidate.name in BOOSTED else None
        if stop_after is not None and (not isinstance(stop_after, int) or stop_after < 1):
            raise UnknownParameter(
                f"{candidate.name}.{EARLY_STOPPING} is a number of rounds, 1 or more.",
                seen=repr(stop_after),
                where="training.candidates",
                fix="set it to 50, say",
            )
        return cls(candidate.name, estimator, stop_after, by_rows, wanted.calibrate, wanted.seed)

    def fit(self, features: Array, target: Array, units: Array, order: Array | None = None) -> Any:
        """A fitted estimator.

        Parameters
        ----------
        features : float32 (n, k)
        target : int64 (n,), 0..k-1, or float64 (n,)
        units : int64 (n,); rows with one number are on one side of every inner split
        order : int64 (n,), ranks in time; the latest rows are held back from boosting to stop it
        """
        from sklearn.base import clone

        estimator = clone(self.estimator)
        with warnings.catch_warnings():
            # LightGBM names array columns itself, and then scikit-learn misses the names.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            if self.stop_after is not None:
                trees = self._trees(features, target, units, order)
                estimator.set_params(**{_TREES[self.name]: trees})
            if self.calibrate == "none" and not hasattr(estimator, "ensemble"):
                fitted = _fitted(estimator, features, target, self._weights(target))
            else:
                fitted = self._calibrated(estimator, features, target, units)
        if self.name == "catboost":
            _without_time(fitted)
        return fitted

    def _weights(self, target: Array) -> Array | None:
        from sklearn.utils.class_weight import compute_sample_weight

        if not self.weighted:
            return None
        weights: Array = compute_sample_weight("balanced", target)
        return weights

    def _calibrated(self, estimator: Any, features: Array, target: Array, units: Array) -> Any:
        """Probabilities learned from out-of-fold answers; the estimator then sees all rows.

        References
        ----------
        Platt (1999), Probabilistic outputs for support vector machines; Zadrozny and Elkan (2002),
        Transforming classifier scores into accurate multiclass probability estimates.
        """
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.model_selection import StratifiedGroupKFold

        if not hasattr(estimator, "ensemble"):
            estimator = CalibratedClassifierCV(estimator, ensemble=False)
        if self.calibrate != "none":
            estimator.set_params(method=self.calibrate)
        folds = StratifiedGroupKFold(_INNER_FOLDS, shuffle=True, random_state=self.seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class")
            estimator.set_params(cv=list(folds.split(features, target, units)))
        fitted = _fitted(estimator, features, target, self._weights(target))
        # The rows of the inner folds are not part of a model.
        return fitted.set_params(cv=_INNER_FOLDS)

    def _trees(self, features: Array, target: Array, units: Array, order: Array | None) -> int:
        """How many trees are best on a tenth of these rows that boosting does not see."""
        from sklearn.base import clone

        held_back = _held_back(units, order, self.seed)
        inside = ~held_back
        if not held_back.any() or len(np.unique(target[inside])) < len(np.unique(target)):
            raise ValueError("too few rows to hold some back for early stopping")
        weights = self._weights(target[inside])
        booster = clone(self.estimator)
        watched = [(features[held_back], target[held_back])]
        more: dict[str, Any] = {"sample_weight": weights, "eval_set": watched}
        if self.name == "lightgbm":
            from lightgbm import early_stopping

            more["callbacks"] = [early_stopping(self.stop_after or 1, verbose=False)]
            return int(booster.fit(features[inside], target[inside], **more).best_iteration_)
        if self.name == "xgboost":
            booster.set_params(early_stopping_rounds=self.stop_after)
            found = booster.fit(features[inside], target[inside], verbose=False, **more)
            return int(found.best_iteration) + 1
        more["early_stopping_rounds"] = self.stop_after
        found = booster.fit(features[inside], target[inside], **more)
        return int(found.get_best_iteration()) + 1


def _without_time(fitted: Any) -> None:
    """CatBoost writes when it was fitted into the model: equal models shall be equal bytes."""
    for part in getattr(fitted, "calibrated_classifiers_", [fitted]):
        told = getattr(part, "estimator", part).get_metadata()
        for key in ("model_guid", "train_finish_time"):
            if key in told:
                del told[key]


def _held_back(units: Array, order: Array | None, seed: int) -> Array:
    """Bool array (n,): about a tenth of the rows, whole units; the latest where there is time."""
    if order is not None:
        held: Array = order > np.quantile(order, 1 - _HELD_BACK, method="lower")
        return held
    place, count = shuffled(units, seed)
    chosen: Array = place < max(1, round(count * _HELD_BACK))
    return chosen


def _fitted(estimator: Any, features: Array, target: Array, weights: Array | None) -> Any:
    if weights is None:
        return estimator.fit(features, target)
    steps = getattr(estimator, "steps", None)
    name = f"{steps[-1][0]}__sample_weight" if steps else "sample_weight"
    return estimator.fit(features, target, **{name: weights})


def _takes_weights(name: str, estimator: Any) -> None:
    from sklearn.utils.validation import has_fit_parameter

    if not has_fit_parameter(estimator, "sample_weight"):
        raise UnknownParameter(
            f"{name} knows no weights of classes or rows.",
            where="training.class_weight",
            fix="set it to none, or take the candidate out",
        )
