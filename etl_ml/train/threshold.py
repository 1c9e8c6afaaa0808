"""From which probability on a row is called positive: chosen on out-of-fold answers alone.

References
----------
Elkan (2001), The foundations of cost-sensitive learning, IJCAI; Sheng and Ling (2006),
Thresholding for making classifiers cost-sensitive, AAAI: the threshold is searched on rows that
the model has not seen, since few probabilities are calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from etl_ml.spec.training import Threshold

Array = np.ndarray[Any, Any]

DEFAULT = 0.5


@dataclass(frozen=True)
class Chosen:
    """A threshold, and how it was found.

    Attributes
    ----------
    value : from this probability on a row is positive
    rule : the rule in words
    found : what the rule looks at, there, on out-of-fold rows
    reached : whether a limit that the rule sets can be kept at all
    """

    value: float
    rule: str = "default"
    found: float | None = None
    reached: bool = True


def choose(rule: Threshold, target: Array, positive: Array) -> Chosen:
    """The threshold that the rule asks for, halfway between two probabilities that were seen.

    Of thresholds that are equally good, the one nearest to 0.5. `precision_at_least` has the
    highest recall with that precision, `recall_at_least` the highest precision with that recall,
    `cost` the lowest sum.

    Parameters
    ----------
    target : int array (n,), 1 is positive
    positive : float array (n,), out-of-fold probabilities of the positive class
    """
    if rule.is_default:
        return Chosen(DEFAULT)
    thresholds, true_positive, false_positive = _counts(target, positive)
    positives, negatives = int(target.sum()), int(len(target) - target.sum())
    precision = _ratio(true_positive, true_positive + false_positive)
    recall = _ratio(true_positive, np.full(len(thresholds), positives))
    if rule.maximize is not None:
        value = _metric(rule.maximize, true_positive, false_positive, positives, negatives)
        return _best(thresholds, value, f"highest {rule.maximize}")
    if rule.cost is not None:
        missed = positives - true_positive
        cost = rule.cost.false_positive * false_positive + rule.cost.false_negative * missed
        told = (
            f"lowest cost, {rule.cost.false_positive:g} for a false positive and "
            f"{rule.cost.false_negative:g} for a false negative"
        )
        chosen = _best(thresholds, -cost / len(target), told)
        return Chosen(chosen.value, told, -(chosen.found or 0.0))
    if rule.precision_at_least is not None:
        return _within(thresholds, recall, precision, rule.precision_at_least, "precision")
    return _within(thresholds, precision, recall, rule.recall_at_least or 0.0, "recall")


def _counts(target: Array, positive: Array) -> tuple[Array, Array, Array]:
    """True and false positives at each threshold, descending; the first calls no row positive."""
    order = np.argsort(-positive, kind="stable")
    ranked = positive[order]
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    true_positive = np.r_[0, np.cumsum(target[order])[last]]
    called = np.r_[0, last + 1]
    values = ranked[last]
    between = (values[:-1] + values[1:]) / 2
    thresholds = np.r_[np.nextafter(values[0], 2.0), between, values[-1] / 2]
    return thresholds, true_positive, called - true_positive


def _metric(name: str, tp: Array, fp: Array, positives: int, negatives: int) -> Array:
    fn, tn = positives - tp, negatives - fp
    if name == "accuracy":
        return _ratio(tp + tn, np.full(len(tp), positives + negatives))
    if name == "balanced_accuracy":
        sensitivity = _ratio(tp, np.full(len(tp), positives))
        return (sensitivity + _ratio(tn, np.full(len(tp), negatives))) / 2
    if name == "precision":
        return _ratio(tp, tp + fp)
    if name == "recall":
        return _ratio(tp, np.full(len(tp), positives))
    if name == "f1":
        return _ratio(2 * tp, 2 * tp + fp + fn)
    spread = np.sqrt((tp + fp) * 1.0 * (tp + fn) * (tn + fp) * (tn + fn))  # mcc
    return _ratio(tp * 1.0 * tn - fp * 1.0 * fn, spread)


def _best(thresholds: Array, value: Array, told: str) -> Chosen:
    best = np.flatnonzero(value >= value.max() - 1e-12)
    place = best[np.abs(thresholds[best] - DEFAULT).argmin()]
    return Chosen(float(thresholds[place]), told, float(value[place]))


def _within(thresholds: Array, value: Array, held: Array, limit: float, name: str) -> Chosen:
    """The best value where the other is within its limit; else where it is nearest to it."""
    told = f"{name} at least {limit:g}"
    kept = held[1:] >= limit  # to call no row positive keeps nothing
    if kept.any():
        place = _best(thresholds[1:][kept], value[1:][kept], told)
        at = int(np.flatnonzero(thresholds == place.value)[0])
        return Chosen(place.value, told, float(held[at]))
    nearest = _best(thresholds[1:], held[1:], told)
    return Chosen(nearest.value, told, nearest.found, reached=False)


def _ratio(part: Array, whole: Array) -> Array:
    """0 where there is nothing to divide by."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)
