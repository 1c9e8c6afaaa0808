"""How good predictions were, once their labels are known: over time, and beside the test rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from etl_ml.deploy import open_package
from etl_ml.lake import Lake, Log
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.training import METRICS
from etl_ml.train.metrics import AnyScores, Scores, bootstrap, scores_of, sign_of

Array = np.ndarray[Any, Any]
Period = Literal["day", "week", "month"]

_EVERY: dict[Period, str] = {"day": "1d", "week": "1w", "month": "1mo"}
LEAST = 30
"""Labelled predictions under which a period says nothing."""
_DRAWS = 400
# Above, an interval costs more than it tells.
_RESAMPLED = 50_000
_CONFIDENCE = 95


@dataclass(frozen=True)
class Judged:
    """n predictions of one version of a model, with their labels.

    Attributes
    ----------
    at : datetimes (n,), ascending: when each was predicted
    labels : int array (n,), the place of each label among the classes, or float array (n,)
    answers : float array (n, k), probabilities, or (n,), numbers
    predicted : int array (n,), what was said; None of numbers
    trained_on : how many more there are of rows that the version was trained on
    """

    version: str
    at: pl.Series
    labels: Array
    answers: Array
    predicted: Array | None
    trained_on: int

    def scores(self, rows: Array) -> AnyScores:
        """The metrics of some of them: int array."""
        scores = scores_of(self.labels[rows], self.answers[rows])
        if isinstance(scores, Scores) and self.predicted is not None:
            scores.predicted = self.predicted[rows]  # by the threshold that held then
        return scores


def report_of(
    judged: Sequence[Judged],
    lake: Lake,
    pipeline: str,
    *,
    by: Period,
    before: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What `performance_report.json` holds.

    Parameters
    ----------
    before : the last report: what it says of predictions that the lake has forgotten since, stays

    Returns
    -------
    dict with `metric`, `by`, `versions` (by version: rows, trained_on, metrics with 95 % bootstrap
    intervals, what it had on its test rows, and whether it is worse now) and `periods` (begin,
    version, rows, metrics), the newest last
    """
    head = Log(lake, pipeline).head()
    metric = head.metric if head else None
    versions = {each.version: _whole(each, lake, pipeline, metric) for each in judged}
    periods = [period for each in judged for period in _periods(each, by, metric)]
    if before is not None:
        kept = before["versions"]
        for version, found in kept.items():
            if version not in versions or versions[version]["rows"] < found["rows"]:
                versions[version] = found
        if before["by"] == by:
            periods = _merged(before["periods"], periods)
    return {
        "metric": metric,
        "by": by,
        "versions": dict(sorted(versions.items())),
        "periods": sorted(periods, key=lambda period: (period["begin"], period["version"])),
    }


def _merged(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Of each period and version the entry that knows more rows; of equals the newer one."""
    found = {(p["begin"], p["version"]): dict(p) for p in before}
    for period in now:
        place = period["begin"], period["version"]
        if place not in found or found[place]["rows"] <= period["rows"]:
            found[place] = dict(period)
    return list(found.values())


def _whole(judged: Judged, lake: Lake, pipeline: str, metric: str | None) -> dict[str, Any]:
    found = _measured(judged, np.arange(len(judged.labels)), metric)
    test = _on_test_rows(lake, pipeline, judged.version)
    return {
        "rows": len(judged.labels),
        "trained_on": judged.trained_on,
        "metrics": found,
        "test": test,
        "worse": _is_worse(found, test, metric),
    }


def _periods(judged: Judged, by: Period, metric: str | None) -> Iterator[dict[str, Any]]:
    begins = judged.at.dt.truncate(_EVERY[by])
    for begin in begins.unique().sort():
        rows = np.flatnonzero((begins == begin).to_numpy())
        yield {
            "begin": begin.date().isoformat(),
            "version": judged.version,
            "rows": len(rows),
            "metrics": _measured(judged, rows, metric),
        }


def _measured(judged: Judged, rows: Array, metric: str | None) -> dict[str, Any]:
    """Each metric's value, and an interval of the one that the model was chosen by."""
    if len(rows) < LEAST:
        return {}
    scores = judged.scores(rows)
    names = METRICS["classification" if isinstance(scores, Scores) else "regression"]
    found: dict[str, Any] = {}
    for name in names:
        value = scores.value(name)
        if math.isfinite(value):
            found[name] = {"value": value, "low": None, "high": None}
    if metric in found and len(rows) <= _RESAMPLED:
        drawn = bootstrap([scores], [metric], np.arange(len(rows)), seed=0, draws=_DRAWS)[0, 0]
        tail = (100 - _CONFIDENCE) / 2
        low, high = np.nanpercentile(drawn, [tail, 100 - tail])
        found[metric] |= {"low": float(low), "high": float(high)}
    return found


def _on_test_rows(lake: Lake, pipeline: str, version: str) -> dict[str, Any]:
    """What the version had when it was evaluated; nothing where its package is gone."""
    try:
        package = open_package(lake, pipeline, version)
        report = json.loads(package.read("evaluation_report.json"))
    except EtlMlError:
        return {}
    return dict(report["metrics"]["test"])


def _is_worse(found: Mapping[str, Any], test: Mapping[str, Any], metric: str | None) -> bool | None:
    """Whether the interval lies on the bad side of that of the test rows; None if not known."""
    if metric is None or metric not in found or metric not in test:
        return None
    score = sign_of(metric) > 0
    here = found[metric]["high" if score else "low"]
    there = test[metric]["low" if score else "high"]
    if here is None or there is None:
        return None
    return bool(here < there if score else here > there)
