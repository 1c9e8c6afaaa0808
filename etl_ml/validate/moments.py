"""Count, mean and standard deviation, of parts and of the whole."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# Far below any number that a data set holds, and far enough for squares of the largest floats.
_SHRUNK = 2.0**-540


@dataclass(frozen=True)
class Moments:
    """Of n numbers: the mean, and the sample standard deviation (n - 1), null below two."""

    n: int = 0
    mean: float | None = None
    std: float | None = None

    @classmethod
    def of(cls, values: pl.Series) -> Moments:
        """Of a series without NaN; nulls are no numbers."""
        import numpy as np
        import polars as pl

        numbers = values.drop_nulls().cast(pl.Float64).to_numpy()
        n = len(numbers)
        if not n:
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(numbers.mean())
            squares = float(np.square(numbers - mean).sum())  # two passes: nothing cancels
        if math.isfinite(squares):
            return cls(n, mean, math.sqrt(squares / (n - 1)) if n > 1 else None)
        # The sum, or a square, is beyond the largest float.
        small = numbers * _SHRUNK
        std = float(small.std(ddof=1)) if n > 1 else None
        return cls(n, _grown(float(small.mean())), std if std is None else _grown(std))

    def merge(self, other: Moments) -> Moments:
        """Of both parts together.

        References
        ----------
        Chan, Golub, LeVeque (1983), Algorithms for computing the sample variance, Am. Stat. 37.
        """
        if self.mean is None or other.mean is None:
            return other if self.mean is None else self
        n = self.n + other.n
        share = other.n / n
        # Halves first: the difference of two floats may be no float.
        apart = other.mean / 2 - self.mean / 2
        mean = self.mean + 2 * apart * share
        parts = (self.std or 0.0, other.std or 0.0)
        unit = max(*parts, abs(apart)) or 1.0
        squares = (self.n - 1) * (parts[0] / unit) ** 2 + (other.n - 1) * (parts[1] / unit) ** 2
        squares += (2 * apart / unit) ** 2 * self.n * share
        return Moments(n, mean, unit * math.sqrt(squares / (n - 1)))


def _grown(value: float) -> float:
    """In its own size again; at most the largest float."""
    return math.copysign(min(abs(value) / _SHRUNK, sys.float_info.max), value)
