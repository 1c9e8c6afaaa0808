"""The rows of the last while, without keeping any."""

from __future__ import annotations

from collections import deque

from etl_ml.monitor.served import Counts, Reference

SECONDS = 3600.0
_SLICES = 6


class Window:
    """Counts of the rows that came within the last `seconds`, to a sixth of that.

    Memory is that of seven counts, however many rows there are.
    """

    def __init__(self, reference: Reference, seconds: float = SECONDS) -> None:
        self._reference, self._slice = reference, seconds / _SLICES
        self._slices: deque[tuple[int, Counts]] = deque()

    def add(self, counts: Counts, now: float) -> None:
        """Take rows into account that came just now."""
        place = int(now // self._slice)
        if not self._slices or self._slices[-1][0] != place:
            self._slices.append((place, self._reference.nothing()))
            self._forget(place)
        self._slices[-1][1].add(counts)

    def counts(self, now: float) -> Counts:
        """Of all the rows that are within the window."""
        self._forget(int(now // self._slice))
        total = self._reference.nothing()
        for _, counts in self._slices:
            total.add(counts)
        return total

    def clear(self) -> None:
        """Forget all rows."""
        self._slices.clear()

    def _forget(self, place: int) -> None:
        # A clock that was set back leaves what seems to come from the future: it is forgotten, too.
        while self._slices and not place - _SLICES < self._slices[0][0] <= place:
            self._slices.popleft()
