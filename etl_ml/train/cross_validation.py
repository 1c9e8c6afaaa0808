"""One trial on all folds: what it scored, and what it said of the rows that it had not seen."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from etl_ml.lake import Version
from etl_ml.lake.estimator import dump_estimator, unknown_types
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.training import Candidate
from etl_ml.train.fitting import Fitter
from etl_ml.train.folds import Fold, folds_of
from etl_ml.train.metrics import answers_of, check_answers, scores_of, sign_of
from etl_ml.train.search import Trial
from etl_ml.train.threshold import choose
from etl_ml.train.trusted import VARIABLE, read_preprocessor, trusted_types
from etl_ml.transform.preprocessor import Preprocessor
from etl_ml.transform.split import shuffled

Array = np.ndarray[Any, Any]


class OutOfTime(Exception):
    """The budget of the search is spent."""


@dataclass(frozen=True)
class TrainingRows:
    """The training side of `transformed_arrays`, cut into folds.

    Attributes
    ----------
    features : float32 (n, k)
    target : int64 (n,), 0..k-1, or float64 (n,)
    units : int64 (n,)
    order : int64 (n,), ranks in time, or None
    folds : bool arrays (n,) of the rows that are fitted and those that are held out
    """

    features: Array
    target: Array
    units: Array
    order: Array | None
    classes: list[Any]
    preprocessor: Preprocessor
    folds: list[Fold]
    _columns: Any
    _relearned: dict[int, tuple[Array, Array]] = field(default_factory=dict)

    @classmethod
    def read(cls, arrays: Version, pipeline: Pipeline) -> TrainingRows:
        """Read the training arrays; those of the test rows are not touched.

        Raises
        ------
        TrainingError
            The rows cannot be cut into folds.
        """
        import polars as pl

        names = {file.path for file in arrays.manifest.files}
        target, units = arrays.read("train_target.npy"), arrays.read("train_units.npy")
        order = arrays.read("train_order.npy") if "train_order.npy" in names else None
        classes = arrays.read("split.json")["classes"]
        columns = None
        if "train_columns.arrow" in names:
            columns = pl.read_ipc(io.BytesIO(arrays.read("train_columns.arrow")))
        return cls(
            arrays.read("train_features.npy"),
            target,
            units,
            order,
            classes,
            read_preprocessor(arrays.read("preprocessor.skops"), pipeline),
            folds_of(target, units, classes, pipeline, order),
            columns,
        )

    def fold(self, number: int) -> tuple[Array, Array]:
        """Features of the rows that are fitted, and of those that are held out.

        What rests on the target or on neighbours is learned anew from the former alone.
        """
        from sklearn.base import clone

        inside, held_out = self.folds[number]
        if self._columns is None:
            return self.features[inside], self.features[held_out]
        if number not in self._relearned:
            learner = clone(self.preprocessor)
            fitted = learner.fit_transform(
                self._columns.filter(inside), self.target[inside], self.units[inside]
            )
            self._relearned[number] = fitted, learner.transform(self._columns.filter(held_out))
        return self._relearned[number]


@dataclass(frozen=True)
class Result:
    """A trial's entry of the leaderboard, and its out-of-fold answers.

    Attributes
    ----------
    answers : float64 (n, k) or (n,), NaN where a row was never held out; None if it failed
    """

    candidate: Candidate
    entry: dict[str, Any]
    answers: Array | None = None

    @property
    def comparable(self) -> bool:
        """Whether it was scored on all folds, fitted on all of their rows."""
        return self.entry["mean"] is not None and "share" not in self.entry

    def better_than(self, other: Result) -> bool:
        """Whether its mean is better than that of another comparable trial."""
        sign = sign_of(self.entry["metric"])
        return bool(sign * self.entry["mean"] > sign * other.entry["mean"])


class Validator:
    """Cross-validates trials on the same folds.

    Parameters
    ----------
    log : takes one entry a fold
    told : is called after each fold, with the trial's name, the fold, the score and the seconds
    """

    def __init__(
        self,
        rows: TrainingRows,
        pipeline: Pipeline,
        log: list[dict[str, Any]],
        told: Callable[[str, int, float, float], None],
    ) -> None:
        self._rows, self._pipeline, self._log, self._told = rows, pipeline, log, told
        self._metric = pipeline.metric
        self._sign = sign_of(self._metric)

    def run(self, candidate: Candidate, trial: Trial, number: int, deadline: float) -> Result:
        """Score one trial; a candidate that fails is an entry with its error.

        Raises
        ------
        OutOfTime
            The deadline, on the monotonic clock, passed before the last fold.
        """
        rows, spent = self._rows, 0.0
        entry: dict[str, Any] = {
            "candidate": candidate.name,
            "params": dict(trial.params),
            "metric": self._metric,
        }
        scores: list[float] = []
        answers: Array | None = None
        for fold in range(len(rows.folds)):
            if time.monotonic() > deadline:
                raise OutOfTime
            start = time.perf_counter()
            try:
                said = self._answers(candidate, trial, fold)
                check_answers(said)
                held_out = rows.folds[fold][1]
                score = scores_of(rows.target[held_out], said).value(self._metric)
                if not np.isfinite(score):
                    raise ValueError(f"{self._metric} is {score} on the held-out rows")
            except (Exception, SystemExit) as error:
                # One candidate that cannot be fitted is no reason to go without the others, and
                # each library has errors of its own.
                problem = f"{type(error).__name__}: {error}"[:300]
                self._log.append(self._line(entry, number, fold) | {"error": problem})
                return Result(candidate, _failed(entry, spent, problem))
            seconds = time.perf_counter() - start
            spent += seconds
            scores.append(score)
            self._log.append(
                self._line(entry, number, fold) | {"score": score, "seconds": round(seconds, 4)}
            )
            self._told(candidate.name, fold, score, seconds)
            if answers is None:
                answers = np.full((len(rows.target), *said.shape[1:]), np.nan)
            answers[held_out] = said
            so_far = self._sign * float(np.mean(scores))
            if fold + 1 < len(rows.folds) and trial.give_up(fold, so_far):
                trial.given_up = True
                told = f"given up after fold {fold + 1}: behind the median of the trials"
                return Result(candidate, _failed(entry, spent, told))
        scores = self._at_their_thresholds(answers, scores)
        trial.score = self._sign * float(np.mean(scores))
        entry |= {
            "mean": float(np.mean(scores)),
            "std": float(np.std(scores, ddof=1)),
            "folds": scores,
            "fit_seconds": round(spent, 3),
        }
        if trial.share < 1:
            entry["share"] = trial.share
        return Result(candidate, entry, answers)

    def _answers(self, candidate: Candidate, trial: Trial, fold: int) -> Array:
        rows = self._rows
        inside, held_out = rows.fold(fold)
        chosen = rows.folds[fold][0]
        target, units = rows.target[chosen], rows.units[chosen]
        order = None if rows.order is None else rows.order[chosen]
        if trial.share < 1:
            kept = _share_of(units, trial.share, self._pipeline.training.seed)
            inside, target, units = inside[kept], target[kept], units[kept]
            order = None if order is None else order[kept]
        fitter = Fitter.of(candidate, trial.params, self._pipeline, cells=inside.size)
        fitted = fitter.fit(inside, target, units, order)
        if candidate.is_class and fold == 0:
            self._may_be_loaded(candidate, fitted)
        return answers_of(fitted, held_out)

    def _may_be_loaded(self, candidate: Candidate, fitted: Any) -> None:
        unknown = unknown_types(dump_estimator(fitted), trusted_types(self._pipeline))
        if unknown:
            raise ValueError(
                f"its model would hold types that nobody is told to trust: {', '.join(unknown)}; "
                f"if they are yours, set {VARIABLE} to their names"
            )

    def _at_their_thresholds(self, answers: Array | None, scores: list[float]) -> list[float]:
        """The folds' scores, each at the threshold that the other folds choose."""
        rule = self._pipeline.training.threshold
        if rule.is_default or answers is None:
            return scores
        target, found = self._rows.target, []
        known = ~np.isnan(answers[:, 1])
        for _, held_out in self._rows.folds:
            others = known & ~held_out
            threshold = choose(rule, target[others], answers[others, 1]).value
            told = scores_of(target[held_out], answers[held_out], threshold)
            found.append(told.value(self._metric))
        return found

    def _line(self, entry: dict[str, Any], number: int, fold: int) -> dict[str, Any]:
        return {"candidate": entry["candidate"], "trial": number, "fold": fold}


def _failed(entry: dict[str, Any], spent: float, problem: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {"mean": None, "std": None, "folds": []}
    return entry | nothing | {"fit_seconds": round(spent, 3), "error": problem}


def _share_of(units: Array, share: float, seed: int) -> Array:
    """Bool array (n,): the rows of a share of the units; a larger share holds the smaller one."""
    place, count = shuffled(units, seed)
    kept: Array = place < max(1, round(count * share))
    return kept
