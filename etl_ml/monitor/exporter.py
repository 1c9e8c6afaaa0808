"""The exporter: a lake's metrics over HTTP, for Prometheus to scrape."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from etl_ml.lake import Lake
from etl_ml.monitor.metrics import LakeMetrics
from etl_ml.monitor.prometheus import needs_prometheus
from etl_ml.spec.error import EtlMlError

with needs_prometheus():
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger("etl_ml.monitor")

_FRESH_SECONDS = 10.0


class Exporter(Collector):
    """A lake's metrics; however often they are asked for, the lake is read every ten seconds.

    A lake that cannot be read is said by `etl_ml_lake_up`, and what was known of it is not repeated
    as if it were so still.
    """

    def __init__(self, lake: Lake, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics, self._clock = LakeMetrics(lake), clock
        self._lock = threading.Lock()
        self._known: list[Metric] = []
        self._due = float("-inf")
        self._trouble = ""

    def describe(self) -> list[Metric]:
        """Nothing: a registry need not read the lake to take this in."""
        return []

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if self._clock() >= self._due:
                self._known = self._read()
                self._due = self._clock() + _FRESH_SECONDS
            known = self._known
        yield from known

    def _read(self) -> list[Metric]:
        begun = time.perf_counter()
        try:
            found, up = self._metrics.families(), 1
            self._trouble = ""
        except EtlMlError as error:
            if self._trouble != str(error):  # once, and not each minute
                log.warning("the lake cannot be read: %s", error)
            self._trouble = str(error)
            found, up = [], 0
        seconds = time.perf_counter() - begun
        return [
            GaugeMetricFamily("etl_ml_lake_up", "1 if the lake can be read.", up),
            GaugeMetricFamily("etl_ml_lake_read_seconds", "How long reading it took.", seconds),
            *found,
        ]


def registry_of(lake: Lake) -> CollectorRegistry:
    """A registry of one exporter."""
    registry = CollectorRegistry()
    registry.register(Exporter(lake))
    return registry


def text(lake: Lake) -> str:
    """The metrics now, in Prometheus' text format."""
    return generate_latest(registry_of(lake)).decode()


def start(lake: Lake, host: str, port: int) -> Any:
    """Answer scrapes in a thread.

    Returns
    -------
    The server: `server_port` is where it listens, `shutdown` ends it.

    Raises
    ------
    EtlMlError
        The address is taken, or is none.
    """
    try:
        server, _ = start_http_server(port, host, registry_of(lake))
    except OSError as error:
        raise EtlMlError(
            f"cannot listen on {host}:{port}: {error.strerror or error}.",
            fix="give another --port or --host; --port 0 takes any that is free",
        ) from None
    return server
