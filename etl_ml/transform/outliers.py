"""How many values of clean rows the outlier limits would touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etl_ml.spec.contract import NUMBERS, Column
from etl_ml.spec.transformation import Outliers

if TYPE_CHECKING:
    import polars as pl


def count_outliers(
    rows: pl.LazyFrame, columns: Mapping[str, Column], outliers: Outliers
) -> dict[str, Any]:
    """Limits and how many values lie beyond them, of each numeric column.

    The limits that a model uses are learned from its training rows alone, in the preprocessor;
    these are of all rows, and nothing is changed here.

    Parameters
    ----------
    rows : lazy frame
    columns : the features and their contracts

    Returns
    -------
    dict by column with `values`, and unless it is sensitive `low` and `high`; empty without limits

    References
    ----------
    Tukey (1977), Exploratory Data Analysis: fences, here `factor` interquartile ranges away.
    """
    import polars as pl

    numeric = [name for name, c in columns.items() if c.type in NUMBERS]
    if outliers.method == "none" or not numeric:
        return {}
    values = pl.col(numeric).cast(pl.Float64)
    if outliers.method == "iqr":
        found = rows.select(values.quantile([0.25, 0.75], "linear"))
    else:
        found = rows.select(
            pl.concat_list(pl.col(n).mean(), pl.col(n).std(ddof=0)).alias(n) for n in numeric
        )
    learned = found.collect(engine="streaming").row(0, named=True)
    limits = {}
    for name, (first, second) in learned.items():
        if first is None:
            continue
        iqr = outliers.method == "iqr"
        high, reach = (second, second - first) if iqr else (first, second)
        limits[name] = (first - outliers.factor * reach, high + outliers.factor * reach)
    beyond = [
        ((pl.col(name) < low) | (pl.col(name) > high)).sum().alias(name)
        for name, (low, high) in limits.items()
    ]
    if not beyond:
        return {}
    counts = rows.select(beyond).collect(engine="streaming").row(0, named=True)
    return {
        name: {"values": counts[name]}
        | ({} if columns[name].sensitive else {"low": low, "high": high})
        for name, (low, high) in limits.items()
    }
