"""How far a long read or write has come, as a line of log every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

_EVERY = 5.0
_UNITS = ("B", "kB", "MB", "GB", "TB")


class Progress:
    """Rows, rows per second, bytes and the time left: a line every 5 seconds and one at the end.

    Parameters
    ----------
    what : begins each line, e.g. `Loading mongodb://host/db.c`
    total_rows : how many there will be, None where that is not known
    log : takes a line
    every : seconds between lines
    """

    def __init__(
        self,
        what: str,
        total_rows: int | None,
        log: Callable[[str], None],
        *,
        every: float = _EVERY,
    ) -> None:
        self._what, self._total, self._log, self._every = what, total_rows, log, every
        self.rows = self.bytes = 0
        self._start = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._start

    def add(self, rows: int, bytes: int = 0) -> None:
        """Count what has just got through."""
        self.rows += rows
        self.bytes += bytes
        now = time.monotonic()
        if now - self._told >= self._every:
            self._told = now
            self._log(f"{self._so_far()}{self._left()}")

    def restart(self) -> None:
        """Count anew: what had got through is done again."""
        self.rows = self.bytes = 0

    def say(self, line: str) -> None:
        """Tell what happened on the way."""
        self._log(f"{self._what}: {line}")

    def done(self) -> None:
        """Say the whole."""
        self._log(f"{self._so_far()}, done in {duration(self.seconds)}")

    def _so_far(self) -> str:
        of = f" of {self._total:,}" if self._total is not None else ""
        rate = self.rows / max(self.seconds, 1e-9)
        size = f", {size_of(self.bytes)}" if self.bytes else ""
        return f"{self._what}: {self.rows:,}{of} rows, {rate:,.0f} rows/s{size}"

    def _left(self) -> str:
        if self._total is None or not 0 < self.rows <= self._total:
            return ""
        return f", {duration(self.seconds / self.rows * (self._total - self.rows))} left"


def size_of(count: float) -> str:
    """Bytes for people: `12.3 MB`."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds for people: `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
