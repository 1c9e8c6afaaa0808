"""The front door: candidates are compared on the training rows, and the best is fitted on all."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from etl_ml.lake import Version
from etl_ml.lake.estimator import dump_estimator
from etl_ml.lake.progress import duration
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.training import Candidate
from etl_ml.train.candidates import UnknownEstimator, UnknownParameter, find_class
from etl_ml.train.cross_validation import OutOfTime, Result, TrainingRows, Validator
from etl_ml.train.fitting import Fitter
from etl_ml.train.folds import TrainingError
from etl_ml.train.metrics import sign_of
from etl_ml.train.model import Model, TabularClassifier, TabularRegressor
from etl_ml.train.onnx import Onnx, convert
from etl_ml.train.search import most_trials, trials
from etl_ml.train.threshold import DEFAULT, Chosen, choose
from etl_ml.train.tracking import check_tracking, track
from etl_ml.train.trusted import read_model
from etl_ml.transform.function import find_function

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Training:
    """The winner, fitted on all training rows, and how it was found.

    Attributes
    ----------
    model : preprocessor, estimator and threshold
    leaderboard : what `leaderboard.json` holds: trials on all rows best first, then those of a
        share of the rows, then those that failed
    log : what `training_log.jsonl` holds, one entry a fold
    onnx : the estimator as ONNX, or why there is none
    """

    model: Model
    leaderboard: list[dict[str, Any]]
    log: list[dict[str, Any]]
    onnx: Onnx

    def files(self) -> dict[str, Any]:
        """The asset's files by name."""
        log = "".join(json.dumps(entry) + "\n" for entry in self.log)
        files: dict[str, Any] = {
            "model.skops": dump_estimator(self.model),
            "leaderboard.json": self.leaderboard,
            "training_log.jsonl": log,
            "onnx_report.json": self.onnx.report,
        }
        if self.onnx.model is not None:
            files["model.onnx"] = self.onnx.model
        return files


def train(
    arrays: Version, pipeline: Pipeline, *, progress: Callable[[str], None] = lambda line: None
) -> Training:
    """Cross-validate every trial of every candidate on the same folds, and refit the best.

    Parameters
    ----------
    arrays : a version of `transformed_arrays`; its test arrays are not read
    progress : is told one line a fold, and one a trial

    Raises
    ------
    TrainingError
        The rows cannot be cut into folds, every candidate failed, or the budget ended before one
        was scored.
    UnknownParameter, UnknownEstimator, TrackerMissing
        A candidate, its parameter or the tracker is not there. Nothing has been fitted.
    """
    check_tracking(pipeline)
    rows = TrainingRows.read(arrays, pipeline)
    _one_threshold(rows, pipeline)
    check_candidates(pipeline, cells=rows.features.size)
    log: list[dict[str, Any]] = []
    entries, best, stopped = _search(rows, pipeline, log, progress)
    board = _ranked(entries, pipeline)
    if best is None:
        raise _nothing(board, stopped, pipeline)
    threshold = _threshold(best, rows, pipeline)
    if threshold.rule != "default":
        best.entry["threshold"] = asdict(threshold)
        progress(f"threshold {threshold.value:.4f}: {threshold.rule}")
    fitter = Fitter.of(best.candidate, best.entry["params"], pipeline, cells=rows.features.size)
    estimator = fitter.fit(rows.features, rows.target, rows.units, rows.order)
    if problem := track(pipeline, board, arrays.version):
        progress(problem)
    return Training(
        _model(rows, estimator, threshold), board, log, convert(estimator, rows.features)
    )


def check_candidates(pipeline: Pipeline, *, cells: int = 0) -> None:
    """See that every candidate is there and takes its parameters; nothing is fitted.

    A class of the user's that cannot be made is a candidate that fails, and no more.

    Raises
    ------
    UnknownParameter, UnknownEstimator
    """
    for candidate in pipeline.candidates:
        if candidate.is_class:
            find_class(candidate.name)
        for params in (candidate.fixed(), *_ends(candidate)):
            try:
                Fitter.of(candidate, params, pipeline, cells=cells)
            except (UnknownParameter, UnknownEstimator):
                raise
            except (Exception, SystemExit):
                if not candidate.is_class:
                    raise


def check_names(pipeline: Pipeline) -> None:
    """See that all that a pipeline's models are made of is there, before a row is read.

    Raises
    ------
    UnknownParameter, UnknownEstimator, FeatureFunctionError, TrackerMissing
    """
    check_tracking(pipeline)
    check_candidates(pipeline)
    if pipeline.features.function:
        find_function(pipeline.features.function)


def _ends(candidate: Candidate) -> Iterator[dict[str, Any]]:
    """One value of each parameter that is searched."""
    for name, values in candidate.space().items():
        yield {name: values[0] if isinstance(values, tuple) else values.low}


def load_model(trained_model: Version, pipeline: Pipeline | None = None) -> Model:
    """The model of a version of `trained_model`.

    Parameters
    ----------
    pipeline : the one that is run, whose own classes and function are trusted
    """
    return read_model(trained_model.read("model.skops"), pipeline)


def _model(rows: TrainingRows, estimator: Any, threshold: Chosen) -> Model:
    if not rows.classes:
        return TabularRegressor(rows.preprocessor, estimator)
    return TabularClassifier(rows.preprocessor, estimator, rows.classes, threshold.value)


def _one_threshold(rows: TrainingRows, pipeline: Pipeline) -> None:
    if len(rows.classes) > 2 and not pipeline.training.threshold.is_default:
        raise TrainingError(
            f"{pipeline.name}: training.threshold tells two classes apart, and there are "
            f"{len(rows.classes)}.",
            where="training.threshold",
            fix="set it to default: the most probable class is predicted",
        )


def _search(
    rows: TrainingRows,
    pipeline: Pipeline,
    log: list[dict[str, Any]],
    progress: Callable[[str], None],
) -> tuple[list[dict[str, Any]], Result | None, bool]:
    """Every trial's entry, the best trial, and whether the budget stopped one.

    The best alone keeps its answers, which are as large as the rows.
    """
    search, candidates = pipeline.training.search, pipeline.candidates
    planned = sum(most_trials(candidate, search) for candidate in candidates)
    start = time.monotonic()
    end = start + search.timeout_seconds if search.method != "none" else math.inf
    told = _Told(progress, planned * len(rows.folds), len(rows.folds), end)
    validator = Validator(rows, pipeline, log, told.fold)
    units, stopped = len(np.unique(rows.units)), False
    entries: list[dict[str, Any]] = []
    best: Result | None = None
    for place, candidate in enumerate(candidates):
        # Each has an equal share of the time that those before it left.
        now = time.monotonic()
        deadline = now + (end - now) / (len(candidates) - place)
        proposed = trials(candidate, search, seed=pipeline.training.seed, units=units)
        for number, trial in enumerate(proposed):
            try:
                result = validator.run(candidate, trial, number, deadline)
            except OutOfTime:
                stopped = True
                progress(f"{candidate.name}: its time is over after {number} trials")
                break
            entries.append(result.entry)
            if result.comparable and (best is None or result.better_than(best)):
                best = result
            progress(_line(result.entry))
        told.skip_to(sum(most_trials(c, search) for c in candidates[: place + 1]))
    return entries, best, stopped


class _Told:
    """A line a fold, with the time that is left if the rest takes as long as what was."""

    def __init__(self, progress: Callable[[str], None], total: int, folds: int, end: float) -> None:
        self._progress, self._total, self._folds, self._end = progress, total, folds, end
        self._done = self._ran = 0
        self._spent = 0.0

    def fold(self, name: str, fold: int, score: float, seconds: float) -> None:
        self._done += 1
        self._ran += 1
        self._spent += seconds
        left = max(self._total - self._done, 0) * self._spent / self._ran
        left = min(left, max(self._end - time.monotonic(), 0.0))
        self._progress(
            f"{name}: fold {fold + 1} of {self._folds}, {score:.4f} in {duration(seconds)}, "
            f"about {duration(left)} left"
        )

    def skip_to(self, trials: int) -> None:
        """Count what was planned and is not run."""
        self._done = max(self._done, trials * self._folds)


def _threshold(best: Result, rows: TrainingRows, pipeline: Pipeline) -> Chosen:
    rule = pipeline.training.threshold
    if rule.is_default or best.answers is None:
        return Chosen(DEFAULT)
    known = ~np.isnan(best.answers[:, 1])
    return choose(rule, rows.target[known], best.answers[known, 1])


def _ranked(entries: list[dict[str, Any]], pipeline: Pipeline) -> list[dict[str, Any]]:
    def place(entry: dict[str, Any]) -> tuple[bool, bool, float]:
        mean = entry["mean"]
        return mean is None, "share" in entry, -sign_of(pipeline.metric) * (mean or 0.0)

    return sorted(entries, key=place)


def _nothing(board: list[dict[str, Any]], stopped: bool, pipeline: Pipeline) -> TrainingError:
    failed = [entry for entry in board if "error" in entry]
    if stopped and not failed:
        budget = pipeline.training.search.timeout_seconds
        return TrainingError(
            f"{pipeline.name}: the budget of {duration(budget)} ended before one candidate was "
            "cross-validated.",
            where="training.search.timeout_seconds",
            fix="raise it, use fewer folds or rows, or name quicker candidates",
        )
    return TrainingError(
        f"{pipeline.name}: every candidate failed.",
        seen="; ".join(f"{e['candidate']}: {e['error']}" for e in failed[:10]),
        where="training.candidates",
        fix="correct their parameters, or try other candidates",
    )


def _line(entry: dict[str, Any]) -> str:
    named = entry["candidate"] + "".join(f" {k}={v}" for k, v in entry["params"].items())
    if entry["mean"] is None:
        return f"{named}: failed: {entry['error']}"
    share = f" on {entry['share']:.0%} of the rows" if "share" in entry else ""
    return (
        f"{named}: {entry['metric']} {entry['mean']:.4f} ± {entry['std']:.4f} "
        f"in {entry['fit_seconds']:.1f} s{share}"
    )
