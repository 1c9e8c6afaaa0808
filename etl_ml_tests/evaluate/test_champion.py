from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl_ml.evaluate import Incumbent
from etl_ml.evaluate.champion import compare
from etl_ml.lake.estimator import UnreadableModel, UntrustedModel
from etl_ml.spec.evaluation import Champion
from etl_ml.train.metrics import Scores
from etl_ml.transform.preprocessor import UnusableFrame

Array = np.ndarray[Any, Any]
RUNS = {250: 60, 2000: 20, 100_000: 1}


class Known:
    """A champion whose answers are in the rows."""

    def __init__(
        self, classes: tuple[Any, ...] = (0, 1), columns: tuple[str, ...] = ("p",)
    ) -> None:
        self.classes, self.threshold, self.preprocessor = list(classes), 0.5, self
        self.columns = columns

    def answers(self, rows: pl.DataFrame) -> Array:
        share = rows["p"].to_numpy()
        return np.column_stack([1 - share, share])


def incumbent(trained_on: Any = (), history: tuple[float, ...] = (), **options: Any) -> Incumbent:
    model: Any = options.pop("model", None) or Known(**options)
    return Incumbent("0000000001", model, np.asarray(trained_on, dtype=str), history)


def answers(target: Array, right: float, rng: np.random.Generator) -> Array:
    """Probabilities that are on the right side for a share of the rows."""
    hit = rng.random(len(target)) < right
    share = rng.uniform(0.55, 0.95, len(target))
    return np.where(hit == (target == 1), share, 1 - share)


def judged(
    target: Array,
    new: Array,
    old: Array,
    *,
    rule: str = "not_worse",
    metric: str = "accuracy",
    champion: Incumbent | None = None,
    classes: tuple[Any, ...] = (0, 1),
    **settings: Any,
) -> dict[str, Any]:
    ids = np.asarray([f"r{n}" for n in range(len(target))])
    found = compare(
        Scores(target, np.column_stack([1 - new, new])),
        pl.DataFrame({"p": old}),
        ids,
        np.arange(len(target)),
        champion or incumbent(),
        Champion(rule=rule, **settings),
        metric,
        classes,
        seed=7,
    )
    assert found is not None
    return found


@cache
def passes(rule: str, rows: int, old: float, new: float) -> float:
    """How often a challenger that is right on a share `new` of rows passes."""
    passed = 0
    for run in range(RUNS[rows]):
        rng = np.random.default_rng(1000 + run)
        target = rng.permutation(np.arange(rows) % 2)
        found = judged(target, answers(target, new, rng), answers(target, old, rng), rule=rule)
        passed += found["passed"] is True
    return passed / RUNS[rows]


@pytest.mark.parametrize("rows", [250, 2000])
def test_an_equal_challenger_is_seldom_called_better(rows: int) -> None:
    # The lower bound of a 95 % interval: one in forty. More than 6 of 60, or 3 of 20, come by
    # chance once in a thousand times.
    assert passes("better", rows, 0.85, 0.85) <= {250: 6 / 60, 2000: 3 / 20}[rows]


@pytest.mark.parametrize(("rows", "new"), [(250, 0.97), (2000, 0.9), (100_000, 0.86)])
def test_a_clearly_better_challenger_passes_both_rules(rows: int, new: float) -> None:
    assert passes("better", rows, 0.85, new) >= 0.9
    assert passes("not_worse", rows, 0.85, new) >= 0.95


@pytest.mark.parametrize(("rows", "new"), [(250, 0.72), (2000, 0.8), (100_000, 0.84)])
def test_a_clearly_worse_challenger_passes_neither(rows: int, new: float) -> None:
    assert passes("not_worse", rows, 0.85, new) <= 0.05
    assert passes("better", rows, 0.85, new) == 0


def test_more_rows_let_more_equal_challengers_pass() -> None:
    few, many = passes("not_worse", 250, 0.85, 0.85), passes("not_worse", 2000, 0.85, 0.85)
    # Two independent models of 85 %: the difference has a standard error of 0.032 and 0.011, and
    # is above the margin of -0.01 with 62 % and 81 %.
    assert 0.42 <= few <= 0.82
    assert 0.5 <= many <= 1


def test_twenty_retrainings_that_each_get_a_little_worse_do_not_slide_far() -> None:
    rng = np.random.default_rng(11)
    target = rng.permutation(np.arange(2000) % 2)
    level, value, history = 0.9, 0.9, [0.9]
    champion = answers(target, level, rng)
    for _ in range(20):
        level -= 0.004  # within the margin each time, and 0.08 in the end
        challenger = answers(target, level, rng)
        found = judged(
            target, challenger, champion, champion=incumbent(history=tuple(history[-20:]))
        )
        if found["passed"]:
            champion = challenger
            value = float(((challenger >= 0.5) == target).mean())
            history.append(value)
    assert value >= max(history) - 2 * 0.01


def test_the_same_answers_always_pass_not_worse_and_never_better() -> None:
    rng = np.random.default_rng(3)
    target = np.arange(500) % 2
    same = answers(target, 0.8, rng)
    kept = judged(target, same, same)
    assert (kept["passed"], kept["difference"], kept["low"], kept["high"]) == (True, 0.0, 0.0, 0.0)
    assert judged(target, same, same, rule="better")["passed"] is False


def test_sixty_rows_are_not_compared() -> None:
    rng = np.random.default_rng(0)
    target = np.arange(60) % 2
    found = judged(target, answers(target, 0.2, rng), answers(target, 0.95, rng))
    assert found["passed"] is None
    assert (found["difference"], found["low"], found["high"]) == (None, None, None)
    assert (
        found["reason"]
        == "60 of 60 test rows are new to the champion, fewer than 100: the gates decide"
    )
    assert "worse than the champion's, too few to tell" in found["warning"]
    better = judged(target, answers(target, 0.95, rng), answers(target, 0.2, rng))
    assert (better["passed"], better["warning"]) == (None, None)


def wrong_on(target: Array, places: Any) -> Array:
    share = np.where(target == 1, 0.9, 0.1)
    share[places] = 1 - share[places]
    return share


@pytest.mark.parametrize(("wrong", "passed"), [(1, True), (2, False)])
@pytest.mark.parametrize("rows", [150, 400])
def test_of_few_rows_the_difference_itself_counts(rows: int, wrong: int, passed: bool) -> None:
    """150 rows, or 400 with 40 of the rarer class; each error is 1/150 or 1/400."""
    target = np.arange(rows) % 2 if rows == 150 else (np.arange(rows) < 40).astype(int)
    errors = range(wrong if rows == 150 else 4 * wrong - 2)
    found = judged(target, wrong_on(target, list(errors)), wrong_on(target, []))
    assert found["passed"] is passed
    assert "too few for the interval to count" in found["reason"]
    assert str(np.bincount(target).min()) in found["reason"]


def test_of_enough_rows_the_interval_counts_inside_the_margin() -> None:
    target = np.arange(2000) % 2
    # 15 errors more in 2,000: within the margin, and never by chance.
    found = judged(target, wrong_on(target, range(15)), wrong_on(target, []))
    assert found["difference"] == pytest.approx(-15 / 2000)
    assert found["high"] < 0
    assert (found["passed"], found["reason"]) == (False, "worse than the champion")


def test_rows_that_the_champion_was_trained_on_are_left_out() -> None:
    target = np.arange(400) % 2
    old = wrong_on(target, range(200, 300))
    known = incumbent(trained_on=[f"r{n}" for n in range(150)])
    found = judged(target, wrong_on(target, range(150)), old, champion=known)
    assert found["rows"] == 250
    assert found["difference"] == pytest.approx(100 / 250)


@pytest.mark.parametrize(
    ("rows", "seen", "compared"),
    [(1000, 501, False), (1000, 500, True), (199, 100, False), (150, 50, True)],
)
def test_fewer_than_half_or_a_hundred_new_rows_are_not_compared(
    rows: int, seen: int, compared: bool
) -> None:
    target = np.arange(rows) % 2
    known = incumbent(trained_on=[f"r{n}" for n in range(seen)])
    found = judged(target, wrong_on(target, []), wrong_on(target, []), champion=known)
    assert (found["passed"] is not None) is compared
    assert compared or f"{rows - seen} of {rows}" in found["reason"]


@pytest.mark.parametrize(("best", "passed"), [(0.96, True), (0.98, False)])
def test_a_slow_slide_is_stopped_two_margins_below_the_best(best: float, passed: bool) -> None:
    target = np.arange(1000) % 2
    same = wrong_on(target, range(55))  # 0.945, as the champion
    found = judged(target, same, same, champion=incumbent(history=(0.95, best, 0.945)))
    assert found["passed"] is passed
    assert passed or "2 margins behind the best of the last champions" in found["reason"]


def test_ignore_compares_nothing() -> None:
    target = np.arange(300) % 2
    found = judged(target, wrong_on(target, range(200)), wrong_on(target, []), rule="ignore")
    assert (found["passed"], found["difference"]) == (None, None)
    assert "ignore" in found["reason"]


def test_without_a_champion_there_is_nothing_to_report() -> None:
    target = np.arange(300) % 2
    scores = Scores(target, np.full((300, 2), 0.5))
    rows = pl.DataFrame({"p": np.full(300, 0.5)})
    ids = np.arange(300).astype(str)
    found = compare(scores, rows, ids, np.arange(300), None, Champion(), "f1", [0, 1], seed=0)
    assert found is None


@pytest.mark.parametrize(
    ("champion", "reason"),
    [
        (incumbent(classes=(0, 1, 2)), "the champion knows the classes [0, 1, 2]"),
        (incumbent(columns=("p", "gone")), "needs columns that are gone (gone)"),
    ],
    ids=["classes", "columns"],
)
def test_a_champion_that_cannot_be_asked_is_not_compared(champion: Incumbent, reason: str) -> None:
    target = np.arange(300) % 2
    found = judged(target, wrong_on(target, []), wrong_on(target, []), champion=champion)
    assert found["passed"] is None
    assert reason in found["reason"]


def test_a_champion_that_cannot_read_a_columns_new_type_is_not_compared() -> None:
    class Old(Known):
        def answers(self, rows: pl.DataFrame) -> Array:
            raise UnusableFrame(
                "column 'p' holds a value that is not of type integer.", seen="'secret'"
            )

    target = np.arange(300) % 2
    champion = incumbent(model=Old())
    found = judged(target, wrong_on(target, []), wrong_on(target, []), champion=champion)
    assert found["passed"] is None
    assert "cannot read today's rows (column 'p' holds" in found["reason"]
    assert "secret" not in found["reason"]


def test_new_rows_without_a_class_are_not_compared() -> None:
    target = (np.arange(300) < 50).astype(int)
    known = incumbent(trained_on=[f"r{n}" for n in range(50)])
    found = judged(target, wrong_on(target, []), wrong_on(target, []), champion=known)
    assert found["passed"] is None
    assert "lack a class" in found["reason"]


def test_a_champion_with_the_classes_in_another_order_is_asked_rightly() -> None:
    target = np.arange(300) % 2
    share = wrong_on(target, [])
    found = judged(target, share, 1 - share, champion=incumbent(classes=(1, 0)))
    assert found["difference"] == 0.0


@pytest.mark.parametrize(("factor", "passed"), [(1.05, True), (1.2, False)])
def test_the_margin_of_log_loss_is_a_share_of_the_champions(factor: float, passed: bool) -> None:
    target = np.arange(150) % 2  # few rows: the difference itself counts
    old = np.where(target == 1, np.exp(-0.05), 1 - np.exp(-0.05))
    new = np.where(target == 1, np.exp(-0.05 * factor), 1 - np.exp(-0.05 * factor))
    found = judged(target, new, old, metric="log_loss", margin=0.1)
    assert found["difference"] == pytest.approx(0.05 * (1 - factor))
    assert found["passed"] is passed


def test_of_a_loss_the_smaller_is_the_better() -> None:
    rng = np.random.default_rng(1)
    target = np.arange(600) % 2
    good, bad = answers(target, 0.95, rng), answers(target, 0.7, rng)
    for metric in ("brier", "log_loss"):
        found = judged(target, good, bad, metric=metric, rule="better")
        assert found["difference"] > 0
        assert found["passed"] is True
        assert judged(target, bad, good, metric=metric)["passed"] is False


def test_a_champion_whose_class_is_not_trusted_any_more_lets_nobody_pass() -> None:
    rng = np.random.default_rng(0)
    target = np.arange(300) % 2
    told = UntrustedModel("model.skops holds types that are not trusted: mine.Own.", fix="set X")
    new, old = answers(target, 0.95, rng), answers(target, 0.2, rng)
    found = judged(target, new, old, champion=incumbent(model=told))
    assert found["passed"] is False
    assert "mine.Own" in found["reason"]
    assert "champion.rule: ignore" in found["reason"]
    damaged = UnreadableModel("model.skops is not a sound skops file.", fix="deploy again")
    found = judged(target, new, old, champion=incumbent(model=damaged))
    assert found["passed"] is None
    assert "the gates decide" in found["reason"]
    ignored = judged(target, new, old, champion=incumbent(model=told), rule="ignore")
    assert ignored["passed"] is None
