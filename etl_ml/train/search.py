"""Which parameters are tried next: in a grid, at random, by halving or by Optuna.

References
----------
Bergstra and Bengio (2012), Random search for hyper-parameter optimization, JMLR 13; Jamieson and
Talwalkar (2016), Non-stochastic best arm identification, AISTATS (halving); Bergstra et al. (2011),
Algorithms for hyper-parameter optimization, NeurIPS (the tree-structured Parzen estimator that
Optuna uses).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from etl_ml.spec.training import Candidate, Range
from etl_ml.spec.training import Search as SearchSpec
from etl_ml.train.spaces import Space, grid_of, space_of

_ETA = 3
_LEAST_UNITS = 200


@dataclass
class Trial:
    """Parameters to try, and what came of them.

    Attributes
    ----------
    share : of the training units that the trial may use, 0 to 1
    score : cross-validated mean, larger is better; None while, or if, there is none
    given_up : whether the rest of its folds was not worth it
    give_up : is told the mean after each fold, and says whether that is so
    """

    params: dict[str, Any]
    share: float = 1.0
    score: float | None = None
    given_up: bool = False
    give_up: Callable[[int, float], bool] = field(default=lambda fold, mean: False)


def trials(candidate: Candidate, search: SearchSpec, *, seed: int, units: int) -> Iterator[Trial]:
    """The trials of one candidate, one after the other; each is scored before the next is asked.

    The first trial is the candidate as it is, without what is searched: a search never ends below
    its start.

    Parameters
    ----------
    units : different training rows; halving gives no trial fewer than 200
    """
    fixed, space = candidate.fixed(), space_of(candidate)
    if search.method == "grid":
        grid = grid_of(candidate, search.trials)
        for values in itertools.product(*grid.values()):
            yield Trial(fixed | dict(zip(grid, values, strict=True)))
        return
    if search.method == "none" or not space:
        yield Trial(fixed)
        return
    if search.method == "random":
        yield from map(Trial, _sampled(fixed, space, search.trials, seed))
    elif search.method == "halving":
        yield from _halving(_sampled(fixed, space, search.trials, seed), units)
    else:
        yield from _optuna(fixed, space, search.trials, seed)


def most_trials(candidate: Candidate, search: SearchSpec) -> int:
    """How many trials there are at most, for the time that is left."""
    if search.method == "grid":
        return math.prod(len(points) for points in grid_of(candidate, search.trials).values())
    if search.method == "none" or not space_of(candidate):
        return 1
    return search.trials * (2 if search.method == "halving" else 1)


def _sampled(fixed: dict[str, Any], space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """The start, then random points, none of them twice."""
    rng = np.random.default_rng(seed)
    found = [fixed]
    for _ in range(10 * count):
        if len(found) >= count:
            break
        point = fixed | {name: _drawn(values, rng) for name, values in space.items()}
        if point not in found:
            found.append(point)
    return found


def _drawn(values: tuple[Any, ...] | Range, rng: np.random.Generator) -> Any:
    if isinstance(values, tuple):
        return values[int(rng.integers(len(values)))]
    if values.whole and not values.log:
        return int(rng.integers(int(values.low), int(values.high) + 1))
    low, high = (math.log(v) if values.log else v for v in (values.low, values.high))
    drawn = float(rng.uniform(low, high))
    number = math.exp(drawn) if values.log else drawn
    return round(number) if values.whole else number


def _halving(points: list[dict[str, Any]], units: int) -> Iterator[Trial]:
    """All on a share of the rows, the best third on three times as many, up to all of them."""
    rounds = min(
        math.floor(math.log(max(len(points), 1), _ETA) + 1e-9),
        max(math.floor(math.log(max(units / _LEAST_UNITS, 1), _ETA)), 0),
    )
    for number in range(rounds, -1, -1):
        tried = []
        for params in points:
            trial = Trial(params, _ETA**-number)
            yield trial
            tried.append(trial)
        ranked = sorted(tried, key=lambda t: (t.score is None, -(t.score or 0.0)))
        points = [trial.params for trial in ranked[: math.ceil(len(ranked) / _ETA)]]


def _optuna(fixed: dict[str, Any], space: Space, count: int, seed: int) -> Iterator[Trial]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )
    start = Trial(dict(fixed))
    yield start
    for _ in range(count - 1):
        asked = study.ask()

        def give_up(fold: int, mean: float, asked: Any = asked) -> bool:
            asked.report(mean, fold)
            return bool(asked.should_prune())

        point = {name: _suggested(asked, name, values) for name, values in space.items()}
        trial = Trial(fixed | point, give_up=give_up)
        yield trial
        if trial.score is not None:
            study.tell(asked, trial.score)
        elif trial.given_up:
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)


def _suggested(asked: Any, name: str, values: tuple[Any, ...] | Range) -> Any:
    if isinstance(values, tuple):
        return asked.suggest_categorical(name, values)
    suggest = asked.suggest_int if values.whole else asked.suggest_float
    return suggest(name, values.low, values.high, log=values.log)
