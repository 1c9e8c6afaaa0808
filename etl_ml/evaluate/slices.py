"""How good the model is for each value of a column: a mean hides those for whom it fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from etl_ml.spec.contract import MOMENTS, NUMBERS, Column
from etl_ml.train.metrics import AnyScores, Scores, bootstrap, greater_is_better, within

Array = np.ndarray[Any, Any]

_MOST_VALUES = 20
_LEAST_ROWS, _LEAST_OF_CLASS = 30, 5
_DRAWS = 300
_QUARTERS = (0.25, 0.5, 0.75)
MISSING, OTHER = "(missing)", "(other)"


def slice_metrics(
    scores: AnyScores,
    rows: pl.DataFrame,
    units: Array,
    columns: Mapping[str, Column],
    metrics: Sequence[str],
    gates: Mapping[str, float],
    *,
    seed: int,
) -> dict[str, Any]:
    """Metrics with 95 % bootstrap intervals, and gates, for each value of each column.

    Numbers and moments of more than 20 values are cut into quarters of the test rows; of text, the
    20 most frequent values are shown and the rest is one. A gate is missed by a slice when the
    whole interval misses it: of many small slices some fall below by chance. It is not judged on
    fewer than 30 rows, or 5 of a class.

    Parameters
    ----------
    rows : frame of the m test rows
    units : int array (m,)
    columns : the columns to look at, with their contracts

    Returns
    -------
    dict by column and value with `rows`, `metrics` and `gates`
    """
    return {
        name: {
            value: _slice(scores.on(place), units[place], metrics, gates, seed)
            for value, place in _parts(rows[name], column)
        }
        for name, column in columns.items()
    }


def missed(slices: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Column, value and metric of each gate that a slice misses."""
    for column, values in slices.items():
        for value, found in values.items():
            for metric, gate in found["gates"].items():
                if gate["passed"] is False:
                    yield column, value, metric


def _slice(
    scores: AnyScores, units: Array, metrics: Sequence[str], gates: Mapping[str, float], seed: int
) -> dict[str, Any]:
    drawn = bootstrap([scores], metrics, units, seed=seed, draws=_DRAWS)[0]
    measured = {}
    for place, name in enumerate(metrics):
        defined = drawn[place][~np.isnan(drawn[place])]
        low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
        value = scores.value(name)
        measured[name] = {
            key: None if np.isnan(number) else float(number)
            for key, number in (("value", value), ("low", low), ("high", high))
        }
    enough = len(scores.target) >= _LEAST_ROWS and (
        not isinstance(scores, Scores)
        or np.bincount(scores.target, minlength=scores.classes).min() >= _LEAST_OF_CLASS
    )
    return {
        "rows": len(scores.target),
        "metrics": measured,
        "gates": {
            name: {"limit": limit, "value": measured[name]["value"]}
            | {"passed": _passed(name, measured[name], limit) if enough else None}
            for name, limit in gates.items()
        },
    }


def _passed(metric: str, found: Mapping[str, float | None], limit: float) -> bool | None:
    better = found["high" if greater_is_better(metric) else "low"]
    return None if better is None else within(metric, better, limit)


def _parts(values: pl.Series, column: Column) -> Iterator[tuple[str, Array]]:
    """Each value in words, and its rows."""
    there = values.drop_nulls()
    ordered = column.type in NUMBERS + MOMENTS
    if ordered and there.n_unique() > _MOST_VALUES:
        labels = _quarters(values)
    else:
        counts = there.value_counts(sort=True)
        first = counts.sort(["count", values.name], descending=[True, False]).head(_MOST_VALUES)
        shown = set(first[values.name])
        labels = [
            MISSING if value is None else (str(value) if value in shown else OTHER)
            for value in values
        ]
        if ordered:  # 2 before 10
            names = [str(value) for value in sorted(shown)]
            yield from _of(labels, [*names, OTHER, MISSING])
            return
    yield from _of(labels, [*sorted(set(labels) - {OTHER, MISSING}), OTHER, MISSING])


def _of(labels: Sequence[str], order: Sequence[str]) -> Iterator[tuple[str, Array]]:
    known = np.asarray(labels)
    for label in order:
        place = np.flatnonzero(known == label)
        if len(place):
            yield label, place


def _quarters(values: pl.Series) -> list[str]:
    physical = values.to_physical().cast(pl.Float64)
    cuts = sorted({float(physical.quantile(q, "lower") or 0.0) for q in _QUARTERS})
    part = np.searchsorted(np.asarray(cuts), physical.fill_null(np.nan).to_numpy(), side="left")
    names = []
    for number in range(len(cuts) + 1):
        inside = values.filter(pl.Series(part == number) & values.is_not_null())
        names.append(f"{number + 1}. {inside.min()!s} to {inside.max()!s}" if len(inside) else "")
    missing = values.is_null().to_list()
    return [MISSING if m else names[p] for m, p in zip(missing, part, strict=True)]
