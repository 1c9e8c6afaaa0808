"""Thresholds against scikit-learn, on the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from etl_ml.spec.training import Threshold
from etl_ml.train.threshold import choose

RNG = np.random.default_rng(3)
TARGET = (RNG.random(400) < 0.3).astype(int)
SCORE = np.clip(0.3 + 0.3 * TARGET + RNG.normal(0, 0.2, 400), 0, 1).round(3)


def rule(**given: Any) -> Threshold:
    return Threshold.model_validate(given)


def every_threshold() -> Any:
    return np.r_[np.unique(SCORE), 1.01]


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("f1", sk.f1_score),
        ("accuracy", sk.accuracy_score),
        ("balanced_accuracy", sk.balanced_accuracy_score),
        ("mcc", sk.matthews_corrcoef),
    ],
)
def test_no_other_threshold_is_better(name: str, peer: Any) -> None:
    chosen = choose(rule(maximize=name), TARGET, SCORE)
    best = max(peer(TARGET, t <= SCORE) for t in every_threshold())
    assert chosen.found == pytest.approx(best, abs=1e-12)
    assert peer(TARGET, chosen.value <= SCORE) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(("positive", "negative"), [(1, 5), (5, 1), (0, 1), (1, 0)])
def test_no_other_threshold_costs_less(positive: float, negative: float) -> None:
    def cost(threshold: float) -> float:
        table = sk.confusion_matrix(TARGET, threshold <= SCORE, labels=[0, 1])
        return float(positive * table[0, 1] + negative * table[1, 0]) / len(TARGET)

    wanted = rule(cost={"false_positive": positive, "false_negative": negative})
    chosen = choose(wanted, TARGET, SCORE)
    assert cost(chosen.value) == pytest.approx(min(map(cost, every_threshold())), abs=1e-12)
    assert chosen.found == pytest.approx(cost(chosen.value), abs=1e-12)


def test_a_precision_is_kept_with_the_highest_recall() -> None:
    chosen = choose(rule(precision_at_least=0.8), TARGET, SCORE)
    precision, recall, _ = sk.precision_recall_curve(TARGET, SCORE)
    called = chosen.value <= SCORE
    assert sk.precision_score(TARGET, called) >= 0.8
    assert sk.recall_score(TARGET, called) == pytest.approx(
        recall[:-1][precision[:-1] >= 0.8].max()
    )
    assert chosen.reached


def test_a_recall_is_kept_with_the_highest_precision() -> None:
    chosen = choose(rule(recall_at_least=0.9), TARGET, SCORE)
    precision, recall, _ = sk.precision_recall_curve(TARGET, SCORE)
    called = chosen.value <= SCORE
    assert sk.recall_score(TARGET, called) >= 0.9
    assert sk.precision_score(TARGET, called) == pytest.approx(precision[recall >= 0.9].max())


def test_a_precision_that_no_threshold_has_is_told_with_the_nearest() -> None:
    target = np.tile([0, 1], 50)
    chosen = choose(rule(precision_at_least=0.9), target, np.full(100, 0.4))
    assert (chosen.reached, chosen.found) == (False, 0.5)


def test_the_default_is_one_half_whatever_the_data() -> None:
    assert choose(Threshold(), TARGET, SCORE).value == 0.5
