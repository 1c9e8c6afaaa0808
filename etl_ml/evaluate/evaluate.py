"""The front door: how good the model is on rows it has not seen, and whether it may be deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from etl_ml.evaluate.card import model_card
from etl_ml.evaluate.champion import Incumbent, compare
from etl_ml.evaluate.importance import permutation_importance
from etl_ml.evaluate.pictures import draw
from etl_ml.lake import Version
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.training import METRICS
from etl_ml.train import load_model
from etl_ml.train.metrics import Scores, bootstrap, greater_is_better
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
        named = {"evaluation_report.json": self.report, "model_card.md": self.card}
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
    metric = pipeline.training.metric
    model, winner = load_model(trained_model), trained_model.read("leaderboard.json")[0]
    target, units = arrays.read("test_target.npy"), arrays.read("test_units.npy")
    features, row_ids = arrays.read("test_features.npy"), arrays.read("test_rows.npy")
    scores = Scores(target, model.estimator.predict_proba(features), model.threshold)
    known = Scores(
        arrays.read("train_target.npy"),
        model.estimator.predict_proba(arrays.read("train_features.npy")),
        model.threshold,
    )
    drawn = bootstrap([scores], METRICS, units, seed=pipeline.training.seed)[0]
    low, high = np.nanpercentile(drawn, [(100 - _CONFIDENCE) / 2, (100 + _CONFIDENCE) / 2], axis=1)
    measured = {
        name: {"value": scores.value(name), "low": low[i], "high": high[i]}
        for i, name in enumerate(METRICS)
    }
    gates: dict[str, Any] = {
        name: {
            "limit": limit,
            "value": measured[name]["value"],
            "passed": _within(name, measured[name]["value"], limit),
        }
        for name, limit in wanted.gates.items()
    }
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
    reasons = _reasons(gates, overfit, champion)
    importance = permutation_importance(
        model, features, target, metric, seed=pipeline.training.seed
    )
    report = {
        "task": pipeline.target.task,
        "model": {"candidate": winner["candidate"], "params": winner["params"]},
        "classes": model.classes,
        "rows": {"train": len(known.target), "test": len(target)},
        "threshold": model.threshold,
        "metrics": {"train": {name: known.value(name) for name in METRICS}, "test": measured},
        "confusion_matrix": scores.confusion()[0].astype(int).tolist(),
        "importance": importance,
        "gates": gates,
        "overfit": overfit,
        "slices": {},
        "champion": champion,
        "deployable": not reasons,
        "reasons": reasons,
    }
    lineage = {v.manifest.asset: v.version for v in (clean, arrays, trained_model)}
    pictures = draw(scores, model.classes, importance, metric)
    return Evaluation(report, model_card(report, pipeline, lineage), pictures)


def _within(metric: str, value: float, limit: float) -> bool:
    return value >= limit if greater_is_better(metric) else value <= limit


def _overfit(
    validated: float, test: float, train: float, metric: str, limit: float | None
) -> dict[str, Any]:
    difference = (validated - test) * (1 if greater_is_better(metric) else -1)
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
