"""How values were distributed, small enough to travel with a model, for live rows to be compared.

Beside the histogram, which is drawn, this one is compared with: its points hold equal shares of the
rows, wherever they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

_POINTS = 100
# Rarer ones are pooled by the test anyway.
_LEAST = 5
_LONGEST = 100


def of_numbers(numbers: np.ndarray[Any, Any]) -> dict[str, list[float]] | None:
    """The distribution function of ascending numbers at up to 100 of them; None without numbers.

    A Kolmogorov-Smirnov distance that is taken at these points alone, and just before them, is at
    most 0.01 too small: between two of them lies less than a hundredth of the numbers. Of up to 100
    different numbers it is exact.

    Returns
    -------
    dict with `values` (k, ascending), `below` (k): how many numbers are smaller, and `at_most` (k):
    how many are not larger
    """
    import numpy as np

    count = len(numbers)
    if not count:
        return None
    values = np.unique(numbers)
    if len(values) > _POINTS:
        ranks = np.ceil(np.arange(1, _POINTS + 1) * count / _POINTS).astype(int) - 1
        values = np.unique(numbers[ranks])
    below, at_most = (np.searchsorted(numbers, values, side=side) for side in ("left", "right"))
    return {"values": values.tolist(), "below": below.tolist(), "at_most": at_most.tolist()}


def places(values: np.ndarray[Any, Any], numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where numbers lie among k ascending values: int array, 2i + 1 on the i-th, else between."""
    import numpy as np

    found: np.ndarray[Any, Any] = np.searchsorted(values, numbers, side="left")
    found += np.searchsorted(values, numbers, side="right")
    return found


def distance(distribution: Mapping[str, Any], counts: np.ndarray[Any, Any]) -> float:
    """The Kolmogorov-Smirnov distance of numbers from a distribution, from 0 to 1.

    Parameters
    ----------
    distribution : of k values, as `of_numbers` made it
    counts : array (2k + 1,), how many of the numbers lie at each of the `places`
    """
    import numpy as np

    total = counts.sum()
    if not total:
        return 0.0
    # At places 2i and 2i + 1 end what is below the i-th value, and what is not above it.
    known = np.stack([distribution["below"], distribution["at_most"]], axis=1).ravel()
    fresh = np.cumsum(counts)[:-1]
    return float(np.abs(known / known[-1] - fresh / total).max())


def of_levels(values: pl.Series) -> dict[str, Any] | None:
    """Counts of up to 100 levels, frequent first; None without values.

    Returns
    -------
    dict with `levels` (k), `counts` (k), and `others`: the count of all the others together
    """
    import polars as pl

    if not len(values):
        return None
    counted = values.alias("level").value_counts(name="count")
    kept = counted.filter(pl.col("count") >= _LEAST)
    if values.dtype == pl.String:
        kept = kept.filter(pl.col("level").str.len_chars() <= _LONGEST)
    kept = kept.sort(["count", "level"], descending=[True, False]).head(_POINTS)
    counts = kept["count"].to_list()
    return {
        "levels": kept["level"].to_list(),
        "counts": counts,
        "others": len(values) - sum(counts),
    }
