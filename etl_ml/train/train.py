"""The front door: candidates are compared on the training rows, and the best is fitted on all."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from etl_ml.lake import Version
from etl_ml.lake.estimator import dump_estimator, load_estimator
from etl_ml.spec.error import EtlMlError, bounded
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.training import Candidate
from etl_ml.train.candidates import build
from etl_ml.train.metrics import Scores, greater_is_better
from etl_ml.train.model import TabularClassifier
from etl_ml.train.trusted import MODEL, PREPROCESSOR

Array = np.ndarray[Any, Any]


class TrainingError(EtlMlError):
    """Nothing can be learned from the training rows as asked."""


@dataclass(frozen=True)
class Training:
    """The winner, fitted on all training rows, and how it was found.

    Attributes
    ----------
    model : preprocessor, estimator and threshold
    leaderboard : what `leaderboard.json` holds, best first, failed candidates last
    log : what `training_log.jsonl` holds, one entry a fold
    """

    model: TabularClassifier
    leaderboard: list[dict[str, Any]]
    log: list[dict[str, Any]]

    def files(self) -> dict[str, Any]:
        """The asset's files by name."""
        log = "".join(json.dumps(entry) + "\n" for entry in self.log)
        return {
            "model.skops": dump_estimator(self.model),
            "leaderboard.json": self.leaderboard,
            "training_log.jsonl": log,
        }


def train(
    arrays: Version, pipeline: Pipeline, *, progress: Callable[[str], None] = lambda line: None
) -> Training:
    """Cross-validate every candidate on the same folds of the training rows, and refit the best.

    Parameters
    ----------
    arrays : a version of `transformed_arrays`; its test arrays are not read
    progress : is told one line a candidate

    Raises
    ------
    TrainingError
        A class has fewer different rows than there are folds, or every candidate failed.
    UnknownParameter
        A candidate's parameter does not exist. Nothing has been fitted.
    """
    wanted = pipeline.training
    features, target = arrays.read("train_features.npy"), arrays.read("train_target.npy")
    units, classes = arrays.read("train_units.npy"), arrays.read("split.json")["classes"]
    fold = folds_of(target, units, classes, pipeline)
    estimators = [build(c, seed=wanted.seed, cells=features.size) for c in wanted.candidates]
    board: list[dict[str, Any]] = []
    log: list[dict[str, Any]] = []
    for candidate, estimator in zip(wanted.candidates, estimators, strict=True):
        entry = _cross_validate(candidate, estimator, features, target, fold, pipeline, log)
        board.append(entry)
        progress(_line(entry))
    ranked = _ranked(board, wanted.metric)
    if ranked[0]["mean"] is None:
        raise TrainingError(
            f"{pipeline.name}: every candidate failed.",
            seen="; ".join(f"{entry['candidate']}: {entry['error']}" for entry in ranked),
            where="training.candidates",
            fix="correct their parameters, or try other candidates",
        )
    best = estimators[board.index(ranked[0])]
    _fit(best, features, target)
    preprocessor = load_estimator(
        arrays.read("preprocessor.skops"), trusted=PREPROCESSOR, name="preprocessor.skops"
    )
    return Training(TabularClassifier(preprocessor, best, classes), ranked, log)


def load_model(trained_model: Version) -> TabularClassifier:
    """The model of a version of `trained_model`."""
    model: TabularClassifier = load_estimator(trained_model.read("model.skops"), trusted=MODEL)
    return model


def folds_of(target: Array, units: Array, classes: list[Any], pipeline: Pipeline) -> Array:
    """The fold of each row: int array (n,). A unit's rows stay in one fold.

    Units are stratified by the class of which they hold the largest share: where rows repeat, a
    rare class may be the most frequent one of no unit.

    Raises
    ------
    TrainingError
        A class cannot be in every fold.
    """
    from sklearn.model_selection import StratifiedKFold

    folds = pipeline.training.folds
    _, member = np.unique(units, return_inverse=True)
    votes = np.zeros((int(member.max()) + 1, len(classes)))
    np.add.at(votes, (member, target), 1)
    sizes = (votes > 0).sum(axis=0)
    fix = "use fewer folds, or give it more rows of that class"
    if sizes.min() < folds:
        raise TrainingError(
            f"{pipeline.name}: class {bounded(classes[int(sizes.argmin())])} has {sizes.min()} "
            f"different training rows, fewer than training.folds = {folds}.",
            where="training.folds",
            fix=fix,
        )
    label = (votes / votes.sum(axis=0)).argmax(axis=1)
    unit_fold = np.empty(len(label), np.int64)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=pipeline.training.seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held_out) in enumerate(splitter.split(label, label)):
            unit_fold[held_out] = number
    fold = unit_fold[member]
    for place, name in enumerate(classes):
        if len(np.unique(fold[target == place])) < folds:
            raise TrainingError(
                f"{pipeline.name}: the rows of class {bounded(name)} repeat so often that one of "
                f"{folds} folds has none.",
                where="training.folds",
                fix=fix,
            )
    return fold


def _cross_validate(
    candidate: Candidate,
    estimator: Any,
    features: Array,
    target: Array,
    fold: Array,
    pipeline: Pipeline,
    log: list[dict[str, Any]],
) -> dict[str, Any]:
    from sklearn.base import clone

    metric = pipeline.training.metric
    scores: list[float] = []
    spent = 0.0
    entry: dict[str, Any] = {
        "candidate": candidate.name,
        "params": dict(candidate.params),
        "metric": metric,
    }
    for number in range(pipeline.training.folds):
        inside, held_out = fold != number, fold == number
        start = time.perf_counter()
        try:
            fitted = _fit(clone(estimator), features[inside], target[inside])
            probabilities = fitted.predict_proba(features[held_out])
            seconds = time.perf_counter() - start
            score = Scores(target[held_out], probabilities).value(metric)
            if not np.isfinite(score):
                raise ValueError(f"{metric} is {score} on the held-out rows")
        except Exception as error:
            # One candidate that cannot be fitted is no reason to go without the others, and each
            # library has errors of its own.
            problem = f"{type(error).__name__}: {error}"[:300]
            log.append({"candidate": candidate.name, "fold": number, "error": problem})
            failed: dict[str, Any] = {
                "mean": None,
                "std": None,
                "folds": [],
                "fit_seconds": round(spent, 3),
            }
            return entry | failed | {"error": problem}
        spent += seconds
        scores.append(score)
        log.append(
            {
                "candidate": candidate.name,
                "fold": number,
                "score": scores[-1],
                "seconds": round(seconds, 4),
            }
        )
    return entry | {
        "mean": float(np.mean(scores)),
        "std": float(np.std(scores, ddof=1)),
        "folds": scores,
        "fit_seconds": round(spent, 3),
    }


def _fit(estimator: Any, features: Array, target: Array) -> Any:
    with warnings.catch_warnings():
        # LightGBM names array columns itself, and then scikit-learn misses the names.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return estimator.fit(features, target)


def _ranked(board: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    sign = -1 if greater_is_better(metric) else 1
    return sorted(board, key=lambda entry: (entry["mean"] is None, sign * (entry["mean"] or 0.0)))


def _line(entry: dict[str, Any]) -> str:
    if entry["mean"] is None:
        return f"{entry['candidate']}: failed: {entry['error']}"
    return (
        f"{entry['candidate']}: {entry['metric']} {entry['mean']:.4f} ± {entry['std']:.4f} "
        f"in {entry['fit_seconds']:.1f} s"
    )
