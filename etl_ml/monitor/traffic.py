"""What a scoring service is asked and answers, measured beside it: drift of inputs, predictions.

    service ── observe(rows, answers) ──▶ a queue ──▶ a thread: counts, windows, gauges

It is an observer of `etl_ml.serve`, which knows nothing of it, and it never makes a request wait.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from etl_ml.monitor.live_metrics import Bands, LiveMetrics, LiveVersion
from etl_ml.monitor.served import Part, Reference
from etl_ml.monitor.window import SECONDS, Window

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from etl_ml.deploy import Package

log = logging.getLogger("etl_ml.monitor")

WAITING = 100_000
"""Rows that may wait to be counted; those that come on top of them are not."""
_EVERY_SECONDS = 5.0
_GATHER_SECONDS = 1.0
_AT_ONCE = 4_096
_CLOSE_SECONDS = 10.0


class Rows(Protocol):
    """n rows by column, as they came; each keeps the model's contract."""

    @property
    def columns(self) -> Any: ...
    @property
    def count(self) -> int: ...
    @property
    def text(self) -> bool: ...


class Answers(Protocol):
    """The answers to them: probabilities (n, k), or numbers (n,)."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def values(self) -> np.ndarray[Any, Any]: ...
    @property
    def predictions(self) -> Sequence[Any]: ...


class LiveTraffic:
    """Counts what comes by, in a thread of its own; what it cannot keep up with is not counted.

    The gauges are of the last hour. Of a sensitive column there are only counts of nulls. Under 200
    rows an effect says nothing, and is 0.

    Parameters
    ----------
    open : the package of a version, whose profile its rows are compared with
    registry : the service's own, which it tells Prometheus
    clock : seconds since 1970
    seconds : how long the window is
    """

    def __init__(
        self,
        open: Callable[[str], Package],
        registry: CollectorRegistry,
        *,
        clock: Callable[[], float] = time.time,
        seconds: float = SECONDS,
    ) -> None:
        self._open, self._clock, self._seconds = open, clock, seconds
        self._metrics = LiveMetrics(registry)
        self._queue: queue.SimpleQueue[tuple[Rows, Answers] | None] = queue.SimpleQueue()
        self._put = self._taken = 0  # each is written by one thread only
        self._closing = threading.Event()
        self._version: LiveVersion | None = None
        self._thread = threading.Thread(target=self._work, name="traffic", daemon=True)
        self._thread.start()

    def observe(self, rows: Rows, answers: Answers) -> None:
        """Take note of rows and of the answers to them, without waiting."""
        if self._put - self._taken + rows.count > WAITING:
            self._metrics.uncounted.inc(rows.count)
            return
        self._put += rows.count
        self._queue.put((rows, answers))

    def close(self) -> None:
        """Count what has come, and end."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        due, over = 0.0, False
        while not over:
            asked, over = self._next()
            if asked:
                self._guarded(self._take, asked)
                self._taken += sum(rows.count for rows, _ in asked)
            if over or time.monotonic() >= due:
                self._guarded(self._show)
                due = time.monotonic() + _EVERY_SECONDS

    def _next(self) -> tuple[list[tuple[Rows, Answers]], bool]:
        """What waits, up to a bound, and whether it is the last."""
        found: list[tuple[Rows, Answers]] = []
        count = 0
        with suppress(queue.Empty):
            while count < _AT_ONCE:
                item = self._queue.get(timeout=0 if found else _EVERY_SECONDS)
                if item is None:
                    return found, True
                if not found and self._put - self._taken < _AT_ONCE:
                    # Rows by the thousand cost a two-hundredth each of what one row alone does.
                    self._closing.wait(_GATHER_SECONDS)
                found.append(item)
                count += item[0].count
        return found, False

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:
            # A package that cannot be read, a value that was not foreseen: the service answers on.
            # The error's text may hold a cell.
            self._metrics.failures.inc()
            log.warning("rows were not counted: %s", type(error).__name__)

    def _take(self, asked: list[tuple[Rows, Answers]]) -> None:
        by_version: dict[tuple[str, str], list[tuple[Rows, Answers]]] = {}
        for rows, answers in asked:
            by_version.setdefault((answers.model, answers.version), []).append((rows, answers))
        for (model, version), several in by_version.items():
            if self._version is None or self._version.labels != (model, version):
                self._begin(model, version)
            assert self._version is not None
            for _, answers in several:
                self._version.answered(answers.predictions, answers.values)
            parts = (Part(rows.columns, rows.count, rows.text) for rows, _ in several)
            self._version.asked(parts, self._clock())

    def _begin(self, model: str, version: str) -> None:
        package = self._open(version)
        reference = Reference.of(package)
        if self._version is not None:
            self._version.end()
        window = Window(reference, self._seconds)
        self._version = LiveVersion(
            (model, version), self._metrics, reference, window, Bands.of(package)
        )

    def _show(self) -> None:
        if self._version is not None:
            self._version.show(self._clock())
