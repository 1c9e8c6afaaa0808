"""The model that answers now, and how another takes its place without a request being dropped."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from etl_ml.serve.scorer import Scorer, UnfitPackage
from etl_ml.serve.source import first_version
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    from etl_ml.serve.metrics import Metrics
    from etl_ml.serve.settings import Settings
    from etl_ml.serve.source import Source

log = logging.getLogger("etl_ml.serve")

_LONGEST_PAUSE = 300.0
_CLOSE_SECONDS = 10.0


class Champion:
    """What a source serves, loaded and asked.

    Attributes
    ----------
    scorer : the model that answers; a request keeps the one that it began with

    Raises
    ------
    EtlMlError
        There is no champion yet, or it cannot be served.
    """

    def __init__(self, source: Source, settings: Settings, metrics: Metrics) -> None:
        self._source, self._settings, self._metrics = source, settings, metrics
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._again = 0.0
        self._told = ""
        self.scorer = self._load(first_version(source))
        metrics.serves(self.scorer, None)
        metrics.looked.set_to_current_time()

    def follow(self) -> None:
        """Look for a new champion from time to time, in a thread that ends with the process."""
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more; a thread that is cut off inside a library takes the process with it."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _follow(self) -> None:
        while not self._over.wait(self._settings.poll_seconds):
            self.refresh()

    def refresh(self) -> None:
        """Look which version is champion, and serve it if it can be served.

        Whatever is wrong with a new package, or with where it lies, is counted and told, and the
        model that answers goes on answering. It is tried again, ever less often.
        """
        if time.monotonic() < self._again:
            return
        try:
            version = first_version(self._source)
            self._metrics.looked.set_to_current_time()
            scorer = None if version == self.scorer.version else self._load(version)
        except Exception as error:
            # A store, a damaged file, a library: any error, for none may end the service.
            self._failed(error)
            return
        self._failures, self._again, self._told = 0, 0.0, ""
        if scorer is not None:
            before, self.scorer = self.scorer, scorer
            self._metrics.packages.labels("taken").inc()
            self._metrics.serves(scorer, before)
            log.info("%s %s answers now, after %s", scorer.model, scorer.version, before.version)

    def _load(self, version: str) -> Scorer:
        package = self._source.open(version)
        if package.version != version:
            raise UnfitPackage(
                f"in the place of version {version} is the package of {package.version}.",
                where=package.url,
                fix="materialize deployed_model again",
            )
        return Scorer(package, unknown=self._settings.unknown_columns)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        poll = self._settings.poll_seconds
        pause = min(poll * 2 ** min(self._failures - 1, 16), _LONGEST_PAUSE)
        self._again = time.monotonic() + pause - poll / 2  # looks come a little sooner or later
        self._metrics.packages.labels("refused").inc()
        told = str(error) if isinstance(error, EtlMlError) else f"{type(error).__name__}: {error}"
        if told != self._told:
            self._told = told
            log.error("%s goes on answering: %s", self.scorer.version, told)
