"""A challenger that is asked what the champion is asked, and whose answers nobody waits for."""

from __future__ import annotations

import logging
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from etl_ml.serve.refused import Refused

if TYPE_CHECKING:
    from etl_ml.serve.answers import Answers
    from etl_ml.serve.metrics import Metrics
    from etl_ml.serve.rows import Rows
    from etl_ml.serve.scorer import Scorer

log = logging.getLogger("etl_ml.serve")

_WAITING = 256
_CLOSE_SECONDS = 10.0


class Shadow:
    """Asks a challenger in a thread of its own; what it cannot keep up with is dropped and counted.

    It is an `Observer`: rows come by as the champion was asked about them.
    """

    def __init__(self, scorer: Scorer, metrics: Metrics) -> None:
        self.scorer, self._metrics = scorer, metrics
        self._waiting: queue.Queue[tuple[Rows, Answers] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def observe(self, rows: Rows, answers: Answers) -> None:
        """Take rows and the champion's answers to them, without waiting."""
        try:
            self._waiting.put_nowait((rows, answers))
        except queue.Full:
            self._count("dropped", rows.count)

    def close(self) -> None:
        """Ask no more; a thread that is cut off inside a library takes the process with it."""
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        while (asked := self._waiting.get()) is not None:
            rows, answers = asked
            try:
                self._compare(rows, answers)
            except Refused:  # its contract is another one
                self._count("refused", rows.count)
            except Exception:
                # Whatever a challenger fails with is its own affair: the champion has answered.
                self._count("failed", rows.count)
                log.warning("the shadow %s failed on a request", self.scorer.version)

    def _compare(self, rows: Rows, answers: Answers) -> None:
        found = self.scorer.score(rows)
        version = self.scorer.version
        if found.values.shape != answers.values.shape:
            self._count("incomparable", rows.count)
            return
        differences = np.abs(found.values - answers.values)
        if differences.ndim == 1:
            differences /= np.maximum(np.abs(answers.values), np.finfo(np.float64).tiny)
        else:
            differences = differences.max(axis=1)
            pairs = zip(found.predictions, answers.predictions, strict=True)
            other = sum(one != another for one, another in pairs)
            self._metrics.shadow_disagreements.labels(version).inc(other)
        observe = self._metrics.shadow_difference.labels(version).observe
        for difference in differences.tolist():
            observe(difference)
        self._count("compared", rows.count)

    def _count(self, result: str, rows: int) -> None:
        self._metrics.shadow_rows.labels(self.scorer.version, result).inc(rows)
