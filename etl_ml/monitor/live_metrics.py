"""What Prometheus is told of live traffic."""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etl_ml.monitor.prometheus import needs_prometheus
from etl_ml.monitor.served import Part, Reference
from etl_ml.monitor.window import Window
from etl_ml.validate.drift import TOO_FEW

with needs_prometheus():
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from etl_ml.deploy import Package

_SEVERAL_PROCESSES = "PROMETHEUS_MULTIPROC_DIR"
_LABELS = 50
_OTHERS = "(others)"
_PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class LiveMetrics:
    """The metrics of one service; of several processes, those of each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        whose = ["pipeline", "version"]
        self.rows = Counter("etl_ml_live_rows", "Rows that were counted.", whose, registry=registry)
        self.uncounted = Counter(
            "etl_ml_live_uncounted_rows",
            "Rows that came faster than they could be counted.",
            registry=registry,
        )
        self.failures = Counter(
            "etl_ml_live_failures", "Times that rows could not be counted.", registry=registry
        )
        self.nulls = Counter(
            "etl_ml_live_nulls", "Nulls by column.", [*whose, "column"], registry=registry
        )
        self.predictions = Counter(
            "etl_ml_live_predictions",
            "Predictions by label; of numbers, by range of the training target's quantiles.",
            [*whose, "label"],
            registry=registry,
        )
        self.probability = Histogram(
            "etl_ml_live_probability",
            "Probability of the positive class; of several classes, of the predicted one.",
            whose,
            buckets=_PROBABILITIES,
            registry=registry,
        )
        self.window_rows = Gauge(
            "etl_ml_live_window_rows",
            "Rows of the last hour.",
            whose,
            registry=registry,
            multiprocess_mode="livesum",
        )
        # Of several processes the one with the largest is told: each sees its share of the rows.
        self.effect = Gauge(
            "etl_ml_live_drift_effect",
            "Distance of the last hour's values from the training profile, 0 to 1; 0 under "
            f"{TOO_FEW} rows.",
            [*whose, "column"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.nulls_effect = Gauge(
            "etl_ml_live_nulls_drift_effect",
            f"The same of the share of nulls; 0 under {TOO_FEW} rows.",
            [*whose, "column"],
            registry=registry,
            multiprocess_mode="livemax",
        )


@dataclass(frozen=True)
class Bands:
    """What predictions are told apart by.

    Attributes
    ----------
    labels : of a classifier
    limits : of numbers: ascending quantiles of the training target
    """

    labels: tuple[str, ...] = ()
    limits: tuple[float, ...] = ()

    @staticmethod
    def of(package: Package) -> Bands:
        """A package's own."""
        output = json.loads(package.read("signature.json"))["output"]
        if output["classes"]:
            return Bands(labels=tuple(map(str, output["classes"][:_LABELS])))
        target = json.loads(package.read("profile.json"))["columns"].get(output["column"], {})
        limits = [limit for limit in target.get("quantiles", {}).values() if limit is not None]
        return Bands(limits=tuple(sorted(set(limits))))

    def tally(self, predictions: Sequence[Any]) -> Tally[str]:
        """How many predictions there are of each kind, of which there is a bounded number."""
        if not self.labels:
            return Tally(self._range(bisect_left(self.limits, number)) for number in predictions)
        known = set(self.labels)
        found: Tally[str] = Tally()
        for label, times in Tally(map(str, predictions)).items():
            found[label if label in known else _OTHERS] += times
        return found

    def _range(self, place: int) -> str:
        if not self.limits:
            return "all"
        if place == len(self.limits):
            return f"above {self.limits[-1]:g}"
        at_most = f"up to {self.limits[place]:g}"
        return at_most if place == 0 else f"above {self.limits[place - 1]:g}, {at_most}"


class LiveVersion:
    """One version of a model, as long as it answers.

    Parameters
    ----------
    labels : pipeline and version
    """

    def __init__(
        self,
        labels: tuple[str, str],
        metrics: LiveMetrics,
        reference: Reference,
        window: Window,
        bands: Bands,
    ) -> None:
        self.labels, self._metrics, self._bands = labels, metrics, bands
        self._reference, self._window = reference, window

    def asked(self, parts: Iterable[Part], now: float) -> None:
        """Rows came."""
        counts = self._reference.count(parts)
        self._window.add(counts, now)
        self._metrics.rows.labels(*self.labels).inc(counts.rows)
        for name, nulls in counts.nulls.items():
            self._metrics.nulls.labels(*self.labels, name).inc(nulls)

    def answered(self, predictions: Sequence[Any], values: np.ndarray[Any, Any]) -> None:
        """Rows were answered: labels and probabilities (n, k), or numbers (n,) twice."""
        for label, times in self._bands.tally(predictions).items():
            self._metrics.predictions.labels(*self.labels, label).inc(times)
        if values.ndim == 2:
            chosen = values[:, 1] if values.shape[1] == 2 else values.max(axis=1)
            observe = self._metrics.probability.labels(*self.labels).observe
            for probability in chosen.tolist():
                observe(probability)

    def show(self, now: float) -> None:
        """Bring the gauges of the window up to date."""
        counts = self._window.counts(now)
        self._metrics.window_rows.labels(*self.labels).set(counts.rows)
        enough = counts.rows >= TOO_FEW
        for name, effect in self._reference.effects(counts).items():
            missing = self._metrics.nulls_effect.labels(*self.labels, name)
            missing.set(effect.nulls if enough else 0.0)
            if effect.values is not None:
                values = self._metrics.effect.labels(*self.labels, name)
                values.set(effect.values if enough else 0.0)

    def end(self) -> None:
        """Another version answers from now on: the gauges are not of this one any more."""
        if _SEVERAL_PROCESSES in os.environ:  # where no series can be taken back
            self._window.clear()
            self.show(0.0)
            return
        with suppress(KeyError):
            self._metrics.window_rows.remove(*self.labels)
        for name in self._reference.columns:
            for gauge in (self._metrics.effect, self._metrics.nulls_effect):
                with suppress(KeyError):
                    gauge.remove(*self.labels, name)
