"""What Prometheus is told of a service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.serve.missing_extra import needs_extra

with needs_extra("serve"):
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        ProcessCollector,
        disable_created_metrics,
        generate_latest,
    )

if TYPE_CHECKING:
    from etl_ml.serve.scorer import Scorer

CONTENT_TYPE = CONTENT_TYPE_LATEST
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where several processes put their numbers, so that any of them can tell all."""

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_DIFFERENCES = (1e-6, 1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class Metrics:
    """The numbers of one process; `text` has those of all."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "etl_ml_serve_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "etl_ml_serve_request_seconds",
            "From a request's headers to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.rows = Counter("etl_ml_serve_rows", "Rows answered.", registry=registry)
        self.refused = Counter(
            "etl_ml_serve_refused", "Requests refused.", ["reason"], registry=registry
        )
        self.in_progress = Gauge(
            "etl_ml_serve_in_progress",
            "Requests being worked on.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queue = Gauge(
            "etl_ml_serve_queue",
            "Requests that wait for a thread, or are in one.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.model = Gauge(
            "etl_ml_serve_model_info",
            "1 for the model that answers now.",
            ["pipeline", "version", "runtime"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.packages = Counter(
            "etl_ml_serve_packages",
            "New champions: taken, refused as unfit, or not to be read.",
            ["result"],
            registry=registry,
        )
        self.looked = Gauge(
            "etl_ml_serve_champion_seen_timestamp_seconds",
            "When it was last known which version is champion.",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self.shadow_rows = Counter(
            "etl_ml_shadow_rows",
            "Rows that the shadow was asked about too.",
            ["version", "result"],
            registry=registry,
        )
        self.shadow_difference = Histogram(
            "etl_ml_shadow_difference",
            "Largest difference in a row's probabilities; of numbers, a share of the champion's.",
            ["version"],
            buckets=_DIFFERENCES,
            registry=registry,
        )
        self.shadow_disagreements = Counter(
            "etl_ml_shadow_disagreements",
            "Rows with another label than the champion's.",
            ["version"],
            registry=registry,
        )
        self._several = FOLDER in os.environ
        if not self._several:
            ProcessCollector(registry=registry)

    def serves(self, scorer: Scorer, before: Scorer | None) -> None:
        """Another model answers from now on."""
        if before is not None:
            self.model.labels(before.model, before.version, before.runtime).set(0)
        self.model.labels(scorer.model, scorer.version, scorer.runtime).set(1)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        if not self._several:
            return generate_latest(self.registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def forget(process: int) -> None:
    """A worker has ended: what it was doing then is over."""
    if FOLDER in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(process)  # type: ignore[no-untyped-call]


def share(folder: Path) -> None:
    """From here on, processes that are started put their numbers together."""
    os.environ[FOLDER] = str(folder)
