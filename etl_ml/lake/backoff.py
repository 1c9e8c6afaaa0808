"""Waiting between attempts at what may heal."""

from __future__ import annotations

import random
import time

from etl_ml.spec.error import EtlMlError

_FIRST, _LONGEST = 0.2, 20.0


AGAIN = 5
"""How often what was not answered is asked again, beyond what a store's own client does."""


def pause(attempt: int) -> None:
    """Wait before asking again: up to half a second at first, sixteen in all."""
    time.sleep(random.uniform(0, 0.5 * 2**attempt))


class Backoff:
    """Exponential back-off with full jitter.

    Parameters
    ----------
    patience : how long to go on without any progress, in seconds

    References
    ----------
    Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
    """

    def __init__(self, patience: float = 180.0) -> None:
        self._patience = patience
        self.reset()

    def reset(self) -> None:
        """Something got through: begin anew with short waits."""
        self._attempt = 0
        self._since: float | None = None

    def wait(self, error: Exception, at_least: float = 0.0) -> None:
        """Sleep before the next attempt, or raise the error once patience has ended.

        Parameters
        ----------
        at_least : what the server asked for, in seconds
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        ceiling = min(_LONGEST, _FIRST * 2**self._attempt)
        delay = max(at_least, random.uniform(ceiling / 2, ceiling))
        if now + delay - self._since > self._patience:
            if isinstance(error, EtlMlError):
                error.heals = True  # else nobody would have waited for it
            raise error
        self._attempt += 1
        time.sleep(delay)
