"""Features that give the target away: too good to be true, and seldom there when it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from etl_ml.spec.contract import TEXTS, Column

Array = np.ndarray[Any, Any]

_LEAST_ROWS = 30
_REPEATED = 5


def give_away(
    rows: pl.DataFrame, columns: Mapping[str, Column], target: Array, *, classes: int
) -> dict[str, str]:
    """The columns that equal the target, or are perfectly monotone with it, and how.

    Rows without a value are left out; a column with a value in fewer than half of the rows, or in
    fewer than 30, is not judged.

    Parameters
    ----------
    rows : frame of n training rows
    target : array (n,), 0..k-1 or numbers
    classes : k; 0 for numbers
    """
    found = {}
    for name, column in columns.items():
        there = rows[name].is_not_null().to_numpy()
        if there.sum() < max(_LEAST_ROWS, len(rows) / 2):
            continue
        values, known = rows[name].filter(there), target[there]
        text = column.type in TEXTS
        if text:
            told = _pure(values, known) if classes else None
        else:
            numbers = values.to_physical().cast(pl.Float64).to_numpy()
            told = _apart(numbers, known) if classes else _monotone(numbers, known)
        if told:
            found[name] = told
    return found


def _apart(values: Array, target: Array) -> str | None:
    """Whether each class has a range of values of its own."""
    order = np.lexsort((target, values))
    ranked, labels = values[order], target[order]
    changes = np.flatnonzero(labels[1:] != labels[:-1])
    if len(changes) != len(np.unique(target)) - 1 or not len(changes):
        return None
    if (ranked[changes] == ranked[changes + 1]).any():  # one value, two classes
        return None
    return "each class has values of its own"


def _monotone(values: Array, target: Array) -> str | None:
    if len(np.unique(values)) < _LEAST_ROWS:
        return None
    if np.array_equal(values, target):
        return "it equals the target"
    order = np.lexsort((target, values))
    steps = np.diff(target[order])
    if (steps >= 0).all():
        return "it rises and falls with the target"
    if (np.diff(target[np.lexsort((-target, values))]) <= 0).all():
        return "it falls where the target rises"
    return None


def _pure(values: pl.Series, target: Array) -> str | None:
    """Whether each category, and there are few, belongs to one class."""
    table = pl.DataFrame({"value": values, "target": target})
    labels = table.group_by("value").agg(pl.col("target").n_unique().alias("labels"))
    if len(labels) * _REPEATED > len(values) or len(labels) < len(np.unique(target)):
        return None
    return "each category belongs to one class" if (labels["labels"] == 1).all() else None
