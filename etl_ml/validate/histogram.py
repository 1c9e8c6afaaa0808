"""How numbers are spread, in bins whose edges do not depend on the numbers' sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_BINS = 40
_OUTSIDE = 0.005


def histogram(numbers: np.ndarray[Any, Any], *, whole: bool = False) -> dict[str, Any] | None:
    """Counts of ascending numbers in equal bins, None without numbers.

    The bins' width is a power of two and their edges are its multiples, so that histograms of two
    samples share their edges, or those of one are all among the other's. They hold the middle 99 %;
    what lies outside is counted in `below` and `above`, so that one wrong value flattens nothing.

    Returns
    -------
    dict with `edges` (k + 1, ascending; a bin holds its left edge), `counts` (k), `below`, `above`
    """
    import numpy as np

    if not len(numbers):
        return None
    outside = int(_OUTSIDE * len(numbers))
    low, high = float(numbers[outside]), float(numbers[-1 - outside])
    width = _width(low, high, whole=whole)
    first, last = math.floor(low / width), math.floor(high / width)
    largest = np.finfo(float).max
    with np.errstate(over="ignore"):
        edges = np.clip(np.arange(first, last + 2, dtype=float) * width, -largest, largest)
    places = np.searchsorted(numbers, edges, side="left")
    return {
        "edges": edges.tolist(),
        "counts": np.diff(places).tolist(),
        "below": int(places[0]),
        "above": int(len(numbers) - places[-1]),
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
