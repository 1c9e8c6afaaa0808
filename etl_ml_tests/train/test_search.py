"""What each method of search tries, and what it learns from what came of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from etl_ml.spec.training import Candidate, Range, Search
from etl_ml.train.search import Trial, most_trials, trials

BOOSTED = Candidate(
    name="hist_gradient_boosting",
    params={
        "learning_rate": Range(low=0.001, high=1.0, log=True),
        "max_leaf_nodes": Range(low=2, high=64),
        "early_stopping": False,
    },
)


def ran(method: str, score: Any, *, count: int = 30, units: int = 10_000) -> list[Trial]:
    found = []
    search = Search(method=method, trials=count)
    for trial in trials(BOOSTED, search, seed=7, units=units):
        trial.score = score(trial)
        found.append(trial)
    return found


def near(trial: Trial) -> float:
    """Best at a learning rate of 0.1 and 30 leaves."""
    import math

    rate, leaves = trial.params.get("learning_rate", 1.0), trial.params.get("max_leaf_nodes", 2)
    return -abs(math.log10(rate) + 1) - abs(leaves - 30) / 30


@pytest.mark.parametrize("method", ["random", "halving", "optuna"])
def test_a_search_begins_with_the_candidate_as_it_is_and_stays_in_range(method: str) -> None:
    found = ran(method, near)
    assert found[0].params == {"early_stopping": False}
    for trial in found[1:]:
        if "learning_rate" in trial.params:
            assert 0.001 <= trial.params["learning_rate"] <= 1.0
            assert 2 <= trial.params["max_leaf_nodes"] <= 64
            assert isinstance(trial.params["max_leaf_nodes"], int)
    assert len(found) <= most_trials(BOOSTED, Search(method=method, trials=30))


@pytest.mark.parametrize("method", ["random", "halving", "optuna"])
def test_the_same_seed_tries_the_same(method: str) -> None:
    assert [t.params for t in ran(method, near)] == [t.params for t in ran(method, near)]


def test_random_spreads_a_logarithmic_range_evenly_over_its_decades() -> None:
    found = [t.params["learning_rate"] for t in ran("random", near, count=600)[1:]]
    decades = Counter(int(rate > 0.01) + int(rate > 0.1) for rate in found)
    assert all(150 < decades[n] < 250 for n in range(3))


def test_halving_keeps_the_best_third_on_three_times_the_rows() -> None:
    found = ran("halving", near, count=27)
    shares = Counter(round(t.share, 4) for t in found)
    assert shares == {0.037: 27, 0.1111: 9, 0.3333: 3, 1.0: 1}
    first = sorted((t for t in found if t.share < 0.04), key=near, reverse=True)
    assert found[-1].params == first[0].params


def test_halving_gives_no_trial_fewer_than_two_hundred_units() -> None:
    assert min(t.share for t in ran("halving", near, count=27, units=700)) == pytest.approx(1 / 3)
    assert {t.share for t in ran("halving", near, count=27, units=300)} == {1.0}


def test_optuna_goes_where_scores_are_better() -> None:
    found = ran("optuna", near, count=60)
    early, late = found[1:20], found[-20:]
    assert sum(map(near, late)) / 20 > sum(map(near, early)) / 19


def test_optuna_is_told_what_was_given_up_and_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    states = []
    tell = optuna.study.Study.tell

    def listening(self: Any, trial: Any, *args: Any, **options: Any) -> Any:
        done = tell(self, trial, *args, **options)
        states.append(done.state.name)
        return done

    monkeypatch.setattr(optuna.study.Study, "tell", listening)
    search = Search(method="optuna", trials=13)
    given_up = 0
    for number, trial in enumerate(trials(BOOSTED, search, seed=7, units=1000)):
        if number == 12:
            continue  # it failed: there is no score
        good = 1.0 if number < 8 else 0.0
        for fold in range(3):
            if trial.give_up(fold, good):
                trial.given_up = True
                given_up += 1
                break
        else:
            trial.score = good
    assert given_up
    assert Counter(states) == {"COMPLETE": 11 - given_up, "PRUNED": given_up, "FAIL": 1}


def test_a_grid_without_lists_is_made_of_the_usual_ranges() -> None:
    from etl_ml.train.spaces import grid_of

    candidate = Candidate(name="decision_tree")
    grid = grid_of(candidate, 20)
    assert grid == {"max_depth": (2, 11, 20), "min_samples_leaf": (1, 7, 50)}
    search = Search(method="grid", trials=20)
    tried = [t.params for t in trials(candidate, search, seed=0, units=100)]
    assert len(tried) == most_trials(candidate, search) == 9
    assert {"max_depth": 11, "min_samples_leaf": 7} in tried
    assert list(grid_of(candidate, 5)) == ["max_depth"]
