"""How a destination refuses, or is refused."""

from __future__ import annotations

from etl_ml.spec.error import EtlMlError


class LoadError(EtlMlError):
    """Rows or files that did not get to their destination, which is as it was before."""


class LostConnection(Exception):
    """What may heal by itself: a connection lost, a deadlock, a server that is starting.

    Parameters
    ----------
    reason : what to tell if it does not heal
    """

    def __init__(self, reason: LoadError) -> None:
        super().__init__(str(reason))
        self.reason = reason
