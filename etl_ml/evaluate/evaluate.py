"""The front door: how good the model is on rows it has not seen, and whether it may be deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from etl_ml.evaluate.card import card_html, model_card
from etl_ml.evaluate.champion import Incumbent, compare
from etl_ml.evaluate.importance import permutation_importance
from etl_ml.evaluate.pictures import draw
from etl_ml.evaluate.slices import missed, slice_metrics
from etl_ml.lake import Version
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.training import METRICS
from etl_ml.train import load_model
from etl_ml.train.metrics import (
    AnyScores,
    Scores,
    answers_of,
    bootstrap,
    scores_of,
    sign_of,
    within,
)
from etl_ml.transform import rows_of

Array = np.ndarray[Any, Any]

_CONFIDENCE = 95


@dataclass(frozen=True)
class Evaluation:
    """What `model_evaluation` holds: its report, its card and its pictures (PNG, by file name)."""

    report: dict[str, Any]
    card: str
    pictures: dict[str, bytes]

    def files(self) -> dict[str, Any]:
        """The asset's files by name."""
        named = {
            "evaluation_report.json": self.report,
            "model_card.md": self.card,
            "model_card.html": card_html(self.card, self.pictures),
        }
        return named | self.pictures


def evaluate(
    trained_model: Version,
    arrays: Version,
    clean: Version,
    pipeline: Pipeline,
    incumbent: Incumbent | None = None,
) -> Evaluation:
    """Measure a model on the test rows, and decide.

    Parameters
    ----------
    trained_model, arrays, clean : versions that belong together
    incumbent : the champion, if there is one

    Returns
    -------
    Evaluation
        Intervals are 95 % bootstrap percentiles over units of rows (Efron and Tibshirani 1993).
    """
    wanted = pipeline.evaluation
    metric, task = pipeline.metric, pipeline.target.task
    metrics = METRICS[task]
    model, winner = load_model(trained_model, pipeline), trained_model.read("leaderboard.json")[0]
    target, units = arrays.read("test_target.npy"), arrays.read("test_units.npy")
    features, row_ids = arrays.read("test_features.npy"), arrays.read("test_rows.npy")
    scores = scores_of(target, answers_of(model.estimator, features), model.threshold)
    known = scores_of(
        arrays.read("train_target.npy"),
        answers_of(model.estimator, arrays.read("train_features.npy")),
        model.threshold,
    )
    drawn = bootstrap([scores], metrics, units, seed=pipeline.training.seed)[0]
    low, high = np.nanpercentile(drawn, [(100 - _CONFIDENCE) / 2, (100 + _CONFIDENCE) / 2], axis=1)
    measured = {
        name: {"value": scores.value(name), "low": low[i], "high": high[i]}
        for i, name in enumerate(metrics)
    }
    gates: dict[str, Any] = {
        name: {
            "limit": limit,
            "value": measured[name]["value"],
            "passed": within(name, measured[name]["value"], limit),
        }
        for name, limit in wanted.gates.items()
    }
    baseline = _baseline(known, scores, metric, measured[metric])
    trained = known.value(metric)
    overfit = _overfit(
        winner["mean"], measured[metric]["value"], trained, metric, wanted.max_overfit
    )
    test = rows_of(clean.table.scan(), row_ids)
    champion = compare(
        scores,
        test,
        row_ids,
        units,
        incumbent,
        wanted.champion,
        metric,
        model.classes,
        seed=pipeline.training.seed,
    )
    contracted = {name: pipeline.contract.columns[name] for name in wanted.slices}
    limits: dict[str, float] = dict(wanted.gates.items())
    slices = slice_metrics(
        scores, test, units, contracted, metrics, limits, seed=pipeline.training.seed
    )
    reasons = _reasons(gates, overfit, champion) + _of_slices(slices) + _of_threshold(winner)
    importance = permutation_importance(
        model, features, target, metric, seed=pipeline.training.seed
    )
    report = {
        "task": task,
        "model": {"candidate": winner["candidate"], "params": winner["params"]},
        "classes": list(model.classes),
        "rows": {"train": len(known.target), "test": len(target)},
        "threshold": model.threshold if len(model.classes) == 2 else None,
        "threshold_rule": winner.get("threshold"),
        "metrics": {"train": {name: known.value(name) for name in metrics}, "test": measured},
        "confusion_matrix": scores.confusion()[0].astype(int).tolist()
        if isinstance(scores, Scores)
        else None,
        "baseline": baseline,
        "importance": importance,
        "gates": gates,
        "overfit": overfit,
        "slices": slices,
        "champion": champion,
        "deployable": not reasons,
        "reasons": reasons,
    }
    lineage = {v.manifest.asset: v.version for v in (clean, arrays, trained_model)}
    notes = arrays.read("preprocessing_report.json")
    pictures = draw(scores, model.classes, importance, metric)
    return Evaluation(report, model_card(report, pipeline, lineage, notes), pictures)


def _baseline(
    known: AnyScores, scores: AnyScores, metric: str, measured: Mapping[str, float]
) -> dict[str, Any]:
    """The best that is reached by answering every row alike: by what training knew of the target.

    That is its mean; of classes their shares, or one of them, as scikit-learn's dummies answer
    with `strategy="prior"` and `"constant"`. `beaten` where the model's whole interval is better;
    None where nothing can be said.
    """
    count, sign = len(scores.target), sign_of(metric)
    alike = [np.full(count, known.target.mean())]
    if isinstance(scores, Scores):
        shares = np.bincount(known.target, minlength=scores.classes) / len(known.target)
        alike = [np.tile(row, (count, 1)) for row in (shares, *np.eye(scores.classes))]
    reached = [sign * scores_of(scores.target, answers).value(metric) for answers in alike]
    best = max((value for value in reached if not np.isnan(value)), default=np.nan)
    worst = min(sign * measured["low"], sign * measured["high"])
    told = not np.isnan([best, worst]).any()
    return {
        "metric": metric,
        "value": float(sign * best) if told else None,
        "beaten": bool(worst > best) if told else None,
    }


def _overfit(
    validated: float, test: float, train: float, metric: str, limit: float | None
) -> dict[str, Any]:
    difference = (validated - test) * sign_of(metric)
    return {
        "metric": metric,
        "cross_validated": validated,
        "test": test,
        "train": train,
        "difference": difference,
        "limit": limit,
        "passed": limit is None or difference <= limit,
    }


def _reasons(
    gates: Mapping[str, Any], overfit: Mapping[str, Any], champion: Mapping[str, Any] | None
) -> list[str]:
    """Why the model may not be deployed; none if it may."""
    reasons = [
        f"{name} {gate['value']:.4f} misses its gate {gate['limit']:g}"
        for name, gate in gates.items()
        if not gate["passed"]
    ]
    if not overfit["passed"]:
        reasons.append(
            f"cross-validated {overfit['metric']} is {overfit['difference']:.4f} better than on "
            f"the test rows; evaluation.max_overfit is {overfit['limit']:g}"
        )
    if champion is not None and champion["passed"] is False:
        reasons.append(f"champion {champion['version']}: {champion['reason']}")
    return reasons


def _of_slices(slices: Mapping[str, Any]) -> list[str]:
    reasons = []
    for column, value, metric in missed(slices):
        found = slices[column][value]
        measured, limit = found["metrics"][metric], found["gates"][metric]["limit"]
        reasons.append(
            f"where {column} is {value}, {metric} {measured['value']:.4f} "
            f"({measured['low']:.4f} to {measured['high']:.4f}) misses its gate {limit:g}"
        )
    return reasons


def _of_threshold(winner: Mapping[str, Any]) -> list[str]:
    chosen = winner.get("threshold")
    if chosen is None or chosen["reached"]:
        return []
    return [
        f"no threshold has {chosen['rule']} on out-of-fold rows; the nearest is "
        f"{chosen['found']:.4f}"
    ]
