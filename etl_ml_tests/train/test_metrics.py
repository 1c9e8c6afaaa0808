from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from etl_ml.spec import training
from etl_ml.train.metrics import Scores, bootstrap, check_answers, decide, greater_is_better

METRICS = training.METRICS["classification"]

Array = np.ndarray[Any, Any]


def binary(rows: int = 300, *, ties: bool = False, seed: int = 100) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    target = (rng.random(rows) < 0.3).astype(int)
    score = np.clip(0.35 + 0.25 * target + rng.normal(0, 0.2, rows), 0, 1)
    if ties:
        score = score.round(1)
    return target, np.column_stack([1 - score, score])


def several(rows: int = 300, classes: int = 4, *, ties: bool = False) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    target = rng.choice(classes, rows, p=[0.5, 0.3, 0.15, 0.05])
    votes = rng.dirichlet(np.ones(classes), rows) + 0.7 * np.eye(classes)[target]
    if ties:
        votes = votes.round(1) + 0.1
    return target, votes / votes.sum(axis=1, keepdims=True)


def peers(target: Array, shares: Array, weight: Array | None) -> dict[str, float]:
    """Every metric as scikit-learn computes it."""
    two = shares.shape[1] == 2
    labels = list(range(shares.shape[1]))
    predicted = (shares[:, 1] >= 0.5).astype(int) if two else shares.argmax(axis=1)
    kind: dict[str, Any] = {"sample_weight": weight}
    average = kind | {"average": "binary" if two else "macro", "zero_division": 0}
    score = shares[:, 1] if two else shares
    return {
        "accuracy": sk.accuracy_score(target, predicted, **kind),
        "balanced_accuracy": sk.balanced_accuracy_score(target, predicted, **kind),
        "precision": sk.precision_score(target, predicted, **average),
        "recall": sk.recall_score(target, predicted, **average),
        "f1": sk.f1_score(target, predicted, **average),
        "roc_auc": sk.roc_auc_score(target, score, multi_class="ovr", **kind),
        "average_precision": sk.average_precision_score(target, score, **kind),
        "mcc": sk.matthews_corrcoef(target, predicted, **kind),
        "log_loss": sk.log_loss(target, shares, labels=labels, **kind),
        "brier": sk.brier_score_loss(target, score, **kind),
    }


def test_every_metric_has_a_peer() -> None:
    assert set(peers(*binary(), None)) == set(METRICS)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("data", [binary, several])
@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_scikit_learns(
    metric: str, data: Callable[..., tuple[Array, Array]], weighted: bool, ties: bool
) -> None:
    target, shares = data(ties=ties)
    assert not ties or len(np.unique(shares)) < shares.size / 5
    weight = (
        np.random.default_rng(2).integers(0, 4, len(target)).astype(float) if weighted else None
    )
    found = Scores(target, shares)(metric, None if weight is None else weight[None])
    assert found[0] == pytest.approx(peers(target, shares, weight)[metric], abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_many_weightings_at_once_are_each_by_itself(metric: str) -> None:
    target, shares = several()
    weights = np.random.default_rng(3).integers(0, 3, (5, len(target))).astype(float)
    scores = Scores(target, shares)
    together = scores(metric, weights)
    assert together.shape == (5,)
    alone = [peers(target, shares, weight)[metric] for weight in weights]
    assert np.allclose(together, alone, rtol=0, atol=1e-9)


def test_a_model_that_never_says_yes_scores_as_in_scikit_learn() -> None:
    target = np.array([0, 1, 0, 1, 0])
    shares = np.tile([0.9, 0.1], (5, 1))
    expected = peers(target, shares, None)
    for metric in METRICS:
        assert Scores(target, shares).value(metric) == pytest.approx(expected[metric], abs=1e-9)
    assert Scores(target, shares).value("precision") == 0.0


def test_probabilities_of_nought_and_one_cost_as_much_as_in_scikit_learn() -> None:
    target = np.array([0, 1, 1])
    shares = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert Scores(target, shares).value("log_loss") == pytest.approx(
        sk.log_loss(target, shares), abs=1e-9
    )


def test_the_threshold_decides_what_is_positive() -> None:
    target, shares = binary()
    for threshold in (0.3, 0.5, 0.7):
        said = (shares[:, 1] >= threshold).astype(int)
        scores = Scores(target, shares, threshold)
        assert scores.value("f1") == pytest.approx(sk.f1_score(target, said), abs=1e-9)
        assert np.array_equal(scores.confusion()[0], sk.confusion_matrix(target, said))
        assert np.array_equal(decide(shares, threshold), said)


def test_the_confusion_matrix_of_several_classes_is_scikit_learns() -> None:
    target, shares = several()
    expected = sk.confusion_matrix(target, shares.argmax(axis=1))
    assert np.array_equal(Scores(target, shares).confusion()[0], expected)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_a_ranking_is_undefined_where_a_class_is_missing(metric: str) -> None:
    scores = Scores(np.array([1, 1]), np.array([[0.5, 0.5], [0.2, 0.8]]))
    weights = np.array([[1.0, 1.0]])
    found = scores("roc_auc", weights)
    assert np.isnan(found).all()
    none = Scores(np.array([0, 0]), np.array([[0.5, 0.5], [0.2, 0.8]]))
    assert np.isnan(none(metric)).all()


def test_losses_are_better_when_smaller() -> None:
    assert {m for m in METRICS if not greater_is_better(m)} == {"log_loss", "brier"}
    numbers = training.METRICS["regression"]
    assert [m for m in numbers if greater_is_better(m)] == ["r2"]


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss", "brier"])
def test_intervals_are_those_of_scipy_where_every_row_is_its_own_unit(metric: str) -> None:
    target, shares = binary(200)
    drawn = bootstrap([Scores(target, shares)], [metric], np.arange(200), seed=1, draws=2000)[0, 0]
    low, high = np.percentile(drawn, [2.5, 97.5])

    def statistic(y: Array, p: Array) -> float:
        plain: dict[str, Callable[[], float]] = {
            "accuracy": lambda: float(np.mean(y == (p >= 0.5))),
            "roc_auc": lambda: float(
                stats.mannwhitneyu(p[y == 1], p[y == 0]).statistic
                / ((y == 1).sum() * (y == 0).sum())
            ),
            "log_loss": lambda: -float(np.mean(np.log(np.where(y == 1, p, 1 - p).clip(1e-12)))),
            "brier": lambda: float(np.mean((p - y) ** 2)),
        }
        return plain[metric]()

    peer = stats.bootstrap(
        (target, shares[:, 1]),
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=600,
        method="percentile",
        random_state=np.random.default_rng(0),
    )
    width = peer.confidence_interval.high - peer.confidence_interval.low
    assert abs(low - peer.confidence_interval.low) < 0.15 * width
    assert abs(high - peer.confidence_interval.high) < 0.15 * width
    assert np.std(drawn) == pytest.approx(peer.standard_error, rel=0.12)


def test_the_bootstrap_resamples_whole_units() -> None:
    target, shares = binary(40)
    units = np.repeat(np.arange(10), 4)
    wrong = (target != decide(shares, 0.5)).astype(float)
    drawn = bootstrap([Scores(target, shares)], ["accuracy"], units, seed=0)[0, 0]
    # Ten units of four rows: the standard error is that of ten means.
    by_unit = wrong.reshape(10, 4).mean(axis=1)
    assert np.std(drawn) == pytest.approx(np.std(by_unit) / np.sqrt(10), rel=0.1)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "roc_auc"])
def test_intervals_are_wider_where_rows_repeat(metric: str) -> None:
    target, shares = binary(60)
    target, shares = np.repeat(target, 9), np.repeat(shares, 9, axis=0)
    units = np.repeat(np.arange(60), 9)
    scores = Scores(target, shares)
    clustered, by_rows = (
        np.nanstd(bootstrap([scores], [metric], unit, seed=0)[0, 0])
        for unit in (units, np.arange(len(units)))
    )
    # Nine copies of each row say no more than one: the error is three times that by rows.
    assert clustered / by_rows == pytest.approx(3, rel=0.15)


def test_models_are_compared_on_the_same_draws() -> None:
    target, shares = binary()
    scores = Scores(target, shares)
    first, second = bootstrap([scores, Scores(target, shares)], ["f1"], np.arange(300), seed=0)
    assert np.array_equal(first, second)
    again = bootstrap([scores], ["f1"], np.arange(300), seed=0)[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, bootstrap([scores], ["f1"], np.arange(300), seed=1)[0])


def test_the_number_of_draws_at_once_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    target, shares = binary()
    whole = bootstrap([Scores(target, shares)], METRICS, np.arange(300), seed=0, draws=50)
    monkeypatch.setattr("etl_ml.train.metrics._CELLS", 300 * 7)
    parts = bootstrap([Scores(target, shares)], METRICS, np.arange(300), seed=0, draws=50)
    assert parts.shape == (1, len(METRICS), 50)
    assert np.allclose(whole, parts, rtol=0, atol=1e-12)


def test_no_interval_is_made_of_draws_that_lack_a_class() -> None:
    target = np.r_[np.zeros(118, int), 1, 1]
    shares = np.column_stack([np.full(120, 0.9), np.full(120, 0.1)])  # it never says 1
    drawn = bootstrap([Scores(target, shares)], METRICS, np.arange(120), seed=0)[0]
    balanced = drawn[METRICS.index("balanced_accuracy")]
    assert np.isnan(balanced).mean() == pytest.approx((1 - 2 / 120) ** 120, abs=0.04)
    assert np.nanmax(balanced) == 0.5
    assert not np.isnan(drawn[METRICS.index("accuracy")]).any()


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (np.full((3, 2), np.nan), "not finite"),
        (np.full((3, 2), 3.0), "between 0 and 1"),
        (np.full((3, 2), 0.2), "do not sum to 1"),
        (np.array([1.0, np.inf]), "not finite"),
    ],
)
def test_what_is_no_answer_is_told_apart(answers: Array, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_answers(answers)
    check_answers(np.array([[0.25, 0.75]]))
    check_answers(np.array([-7.0]))
