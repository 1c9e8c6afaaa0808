"""How numbers are spread, in bins whose edges do not depend on the numbers' sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

_BINS = 40
_OUTSIDE = 0.005


def histogram(values: pl.Series) -> dict[str, Any] | None:
    """Counts of numbers in equal bins, None without numbers.

    The bins' width is a power of two and their edges are its multiples, so that histograms of two
    samples share their edges, or those of one are all among the other's. They hold the middle 99 %;
    what lies outside is counted in `below` and `above`, so that one wrong value flattens nothing.

    Returns
    -------
    dict with `edges` (k + 1, ascending; a bin holds its left edge), `counts` (k), `below`, `above`
    """
    import numpy as np
    import polars as pl

    if not values.len():
        return None
    numbers = values.cast(pl.Float64).to_numpy()
    low, high = np.quantile(numbers, [_OUTSIDE, 1 - _OUTSIDE], method="nearest")
    width = _width(float(low), float(high), whole=values.dtype.is_integer())
    first, last = math.floor(low / width), math.floor(high / width)
    edges = np.arange(first, last + 2, dtype=float) * width
    if not np.isfinite(edges).all():
        edges = np.clip(edges, -np.finfo(float).max, np.finfo(float).max)
    place = np.searchsorted(edges, numbers, side="right")
    counts = np.bincount(place, minlength=len(edges) + 1)
    inside, above = counts[1:-1], counts[-1]
    return {
        "edges": edges.tolist(),
        "counts": inside.tolist(),
        "below": int(counts[0]),
        "above": int(above),
    }


def _width(low: float, high: float, *, whole: bool) -> float:
    """The least power of two of which `_BINS` cover the range."""
    # Halves first: the difference of two floats may be no float.
    reach = (high / 2 - low / 2) / _BINS * 2
    if reach == 0:
        reach = abs(low) / _BINS or 1.0
    exponent = math.ceil(math.log2(reach)) if reach > 1e-300 else -996
    # Beyond 2^53 widths to the value, neighbouring edges would be one float.
    largest = max(abs(low), abs(high))
    if largest:
        exponent = max(exponent, math.floor(math.log2(largest)) - 50)
    return math.ldexp(1.0, max(exponent, 0) if whole else exponent)
