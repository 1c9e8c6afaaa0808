"""Metrics of a model, for one weighting of the rows or for a thousand at once.

Every function takes weights of shape (b, n) and gives b values, so that a bootstrap costs a few
matrix operations. With equal weights the values are scikit-learn's.

References
----------
Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 13 and 16; by clusters:
Field and Welsh (2007), Bootstrapping clustered data, JRSS B 69.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from etl_ml.spec.training import LOSSES
from etl_ml.train.measured import Measured, weighted_mean
from etl_ml.train.regression_metrics import RegressionScores

Array = np.ndarray[Any, Any]

_CELLS = 8_000_000
_ROUNDING, _SUM = 1e-6, 1e-3
_OF_ROWS = ("accuracy", "log_loss", "brier")
"""Means over the rows: they measure the same also where a class has none."""


def greater_is_better(metric: str) -> bool:
    return metric not in LOSSES


def sign_of(metric: str) -> float:
    """1 for a score, -1 for a loss: times it, larger is better."""
    return 1.0 if greater_is_better(metric) else -1.0


def within(metric: str, value: float, limit: float) -> bool:
    """Whether a gate is passed: a lower limit for a score, an upper one for a loss."""
    return value >= limit if greater_is_better(metric) else value <= limit


class Scores(Measured):
    """The metrics of one model's probabilities.

    Of several classes precision, recall, F1 and average precision are macro averages, ROC AUC is
    one against the rest, averaged.

    Parameters
    ----------
    target : int array (n,), 0..k-1; of two classes 1 is positive
    probabilities : float array (n, k)
    threshold : of two classes, the positive one is predicted from here on
    """

    def __init__(self, target: Array, probabilities: Array, threshold: float = 0.5) -> None:
        self.target = target
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        self.classes = self.probabilities.shape[1]
        self.threshold = threshold
        self.predicted = decide(self.probabilities, threshold)
        self._ranks: dict[int, tuple[Array, Array]] = {}

    @property
    def answers(self) -> Array:
        """What the model said: float64 array (n, k)."""
        return self.probabilities

    def on(self, rows: Array) -> Scores:
        """The same model on some of the rows: bool or int array."""
        return Scores(self.target[rows], self.probabilities[rows], self.threshold)

    def confusion(self, weights: Array | None = None) -> Array:
        """Weight by true class and predicted class: (b, k, k)."""
        rows = np.ones((1, len(self.target))) if weights is None else weights
        k = self.classes
        cell = self.target * k + self.predicted
        counts = np.stack([np.bincount(cell, weights=w, minlength=k * k) for w in rows])
        table: Array = counts.reshape(-1, k, k)
        return table

    def _accuracy(self, weights: Array) -> Array:
        right = (self.target == self.predicted).astype(np.float64)
        return weighted_mean(right, weights)

    def _balanced_accuracy(self, weights: Array) -> Array:
        table = self.confusion(weights)
        return _mean(_diagonal(table) / table.sum(axis=2))

    def _recall(self, weights: Array) -> Array:
        table = self.confusion(weights)
        return self._average(_ratio(_diagonal(table), table.sum(axis=2)), table)

    def _precision(self, weights: Array) -> Array:
        table = self.confusion(weights)
        return self._average(_ratio(_diagonal(table), table.sum(axis=1)), table)

    def _f1(self, weights: Array) -> Array:
        table = self.confusion(weights)
        both = table.sum(axis=1) + table.sum(axis=2)
        return self._average(_ratio(2 * _diagonal(table), both), table)

    def _mcc(self, weights: Array) -> Array:
        # Gorodkin (2004), Comparing two K-category assignments by a K-category correlation.
        table = self.confusion(weights)
        total = table.sum(axis=(1, 2))
        true, predicted = table.sum(axis=2), table.sum(axis=1)
        covariance = _diagonal(table).sum(axis=1) * total - (true * predicted).sum(axis=1)
        spread = (total**2 - (true**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
        return np.where(spread > 0, covariance / np.sqrt(spread), 0.0)

    def _roc_auc(self, weights: Array) -> Array:
        return self._ranked(weights, _auc)

    def _average_precision(self, weights: Array) -> Array:
        return self._ranked(weights, _average_precision)

    def _log_loss(self, weights: Array) -> Array:
        tiny = np.finfo(np.float64).eps
        chosen = self.probabilities[np.arange(len(self.target)), self.target]
        return weighted_mean(-np.log(np.clip(chosen, tiny, 1 - tiny)), weights)

    def _brier(self, weights: Array) -> Array:
        one_hot = np.eye(self.classes)[self.target]
        loss = ((self.probabilities - one_hot) ** 2).sum(axis=1)
        return weighted_mean(loss / (2 if self.classes == 2 else 1), weights)

    def _average(self, by_class: Array, table: Array) -> Array:
        """The positive class's value, or the mean over the classes that occur."""
        if self.classes == 2:
            return by_class[:, 1]
        occurs = (table.sum(axis=1) + table.sum(axis=2)) > 0
        return _mean(np.where(occurs, by_class, np.nan))

    def _ranked(self, weights: Array, statistic: Any) -> Array:
        kinds = [1] if self.classes == 2 else range(self.classes)
        values = [statistic(*self._groups(kind, weights)) for kind in kinds]
        return np.mean(values, axis=0)  # type: ignore[no-any-return]

    def _groups(self, kind: int, weights: Array) -> tuple[Array, Array]:
        """Positive and negative weight at each distinct score, highest score first: (b, g)."""
        if kind not in self._ranks:
            score = self.probabilities[:, kind]
            order = np.argsort(-score, kind="stable")
            starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
            self._ranks[kind] = order, starts
        order, starts = self._ranks[kind]
        ordered = weights[:, order]
        positive = (self.target[order] == kind).astype(np.float64)
        return (
            np.add.reduceat(ordered * positive, starts, axis=1),
            np.add.reduceat(ordered * (1 - positive), starts, axis=1),
        )


AnyScores = Scores | RegressionScores


def scores_of(target: Array, answers: Array, threshold: float = 0.5) -> AnyScores:
    """The metrics of a model's answers: probabilities (n, k), or numbers (n,)."""
    if answers.ndim == 1:
        return RegressionScores(target, answers)
    return Scores(target, answers, threshold)


def answers_of(estimator: Any, features: Any) -> Array:
    """What a fitted estimator says: probabilities (n, k) of a classifier, else numbers (n,)."""
    asked = getattr(estimator, "predict_proba", None) or estimator.predict
    if not len(features):  # scikit-learn refuses to be asked about nothing
        width = (len(estimator.classes_),) if hasattr(estimator, "predict_proba") else ()
        return np.empty((0, *width))
    with warnings.catch_warnings():
        # LightGBM names array columns itself, and then scikit-learn misses the names.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return np.asarray(asked(features), np.float64)


def check_answers(answers: Array) -> None:
    """Raise ValueError for answers that no metric can be made of.

    Parameters
    ----------
    answers : float array (n, k) of probabilities, or (n,) of numbers
    """
    if not np.isfinite(answers).all():
        raise ValueError(f"{int((~np.isfinite(answers)).sum())} of its answers are not finite")
    if answers.ndim == 1:
        return
    if answers.min(initial=0.0) < -_ROUNDING or answers.max(initial=1.0) > 1 + _ROUNDING:
        raise ValueError("its probabilities are not between 0 and 1")
    if np.abs(answers.sum(axis=1) - 1).max(initial=0.0) > _SUM:
        raise ValueError("the probabilities of a row do not sum to 1")


def decide(probabilities: Array, threshold: float) -> Array:
    """The predicted class of each row: int array (n,)."""
    if probabilities.shape[1] == 2:
        predicted: Array = probabilities[:, 1] >= threshold
    else:
        predicted = probabilities.argmax(axis=1)
    return predicted.astype(np.int64)


def bootstrap(
    scores: Sequence[AnyScores],
    metrics: Sequence[str],
    units: Array,
    *,
    seed: int,
    draws: int = 1000,
) -> Array:
    """Metrics of the same resamples of units, so that models are compared in pairs.

    Parameters
    ----------
    units : int array (n,); rows with one number are drawn together

    Returns
    -------
    float array (models, metrics, draws), NaN where a draw lacks a class that the rows have: what
    it measures is another thing, and no interval is made of it
    """
    found: list[Array] = []
    for weights in _resamples(units, seed, draws):
        values = np.stack([[score(metric, weights) for metric in metrics] for score in scores])
        by_class = [place for place, metric in enumerate(metrics) if metric not in _OF_ROWS]
        for place in by_class:
            values[:, place, _lacks_a_class(scores[0], weights)] = np.nan
        found.append(values)
    return np.concatenate(found, axis=2)


def _lacks_a_class(scores: AnyScores, weights: Array) -> Array:
    """Bool array (b,)."""
    if not isinstance(scores, Scores):
        return np.zeros(len(weights), bool)
    present = [weights[:, scores.target == kind].sum(axis=1) for kind in np.unique(scores.target)]
    lacking: Array = (np.stack(present) == 0).any(axis=0)
    return lacking


def _resamples(units: Array, seed: int, draws: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    _, member = np.unique(units, return_inverse=True)
    count = int(member.max()) + 1
    at_once = max(1, _CELLS // len(units))
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        times = rng.multinomial(count, np.full(count, 1 / count), size=size)
        yield times[:, member].astype(np.float64)


def _diagonal(table: Array) -> Array:
    return np.diagonal(table, axis1=1, axis2=2)


def _ratio(part: Array, whole: Array) -> Array:
    """0 where there is nothing to divide by, as scikit-learn's zero_division."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)


def _mean(by_class: Array) -> Array:
    defined = ~np.isnan(by_class)
    return np.where(defined, by_class, 0).sum(axis=1) / defined.sum(axis=1)  # type: ignore[no-any-return]


def _auc(positive: Array, negative: Array) -> Array:
    # Mann-Whitney: pairs that are ranked right, ties by half.
    above = np.cumsum(positive, axis=1) - positive / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return (negative * above).sum(axis=1) / pairs  # type: ignore[no-any-return]


def _average_precision(positive: Array, negative: Array) -> Array:
    found = np.cumsum(positive, axis=1)
    taken = found + np.cumsum(negative, axis=1)
    precision = _ratio(found, taken)
    return (positive * precision).sum(axis=1) / positive.sum(axis=1)  # type: ignore[no-any-return]
