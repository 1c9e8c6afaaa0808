"""What the valid rows look like, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etl_ml.spec.contract import Column

if TYPE_CHECKING:
    import polars as pl

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TOP = 10


def profile(rows: pl.LazyFrame, columns: Mapping[str, Column | None]) -> dict[str, Any]:
    """Counts and statistics of each column.

    Parameters
    ----------
    rows : lazy frame of valid rows
    columns : names and contracts; None for a column that is kept without one

    Returns
    -------
    dict with `rows` and `columns`: of each column type, count (not null), nulls, distinct
    (estimated by HyperLogLog++), and unless it is sensitive: min and max; of numbers mean, std
    (n - 1) and quantiles (linear interpolation); of text and few-valued columns the most frequent
    values.

    References
    ----------
    Heule, Nunkesser, Hall (2013), HyperLogLog in Practice, EDBT (as Polars' approx_n_unique).
    """
    import polars as pl

    schema = rows.collect_schema()
    wanted: list[pl.Expr] = [pl.len().alias("rows")]
    for position, (name, column) in enumerate(columns.items()):
        wanted += [
            statistic.alias(f"{position} {label}")
            for label, statistic in _statistics(pl.col(name), schema[name], column).items()
        ]
    top = [
        rows.select(pl.col(name))
        .drop_nulls()
        .group_by(name)
        .len("count")
        .sort(["count", name], descending=[True, False])
        .head(_TOP)
        for name, column in columns.items()
        if _countable(schema[name], column)
    ]
    statistics, *tops = pl.collect_all([rows.select(wanted), *top], engine="streaming")
    found = statistics.row(0, named=True)
    described: dict[str, Any] = {}
    for position, (name, column) in enumerate(columns.items()):
        prefix = f"{position} "
        own = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        if "quantiles" in own:
            values = own["quantiles"] or [None] * len(_QUANTILES)
            own["quantiles"] = {f"{q:g}": v for q, v in zip(_QUANTILES, values, strict=True)}
        described[name] = {"type": column.type if column else str(schema[name]), **own}
    for frame in tops:
        name = frame.columns[0]
        described[name]["top"] = [{"value": value, "count": n} for value, n in frame.iter_rows()]
    return {"rows": found["rows"], "columns": described}


def _statistics(value: pl.Expr, kind: pl.DataType, column: Column | None) -> dict[str, pl.Expr]:
    import polars as pl

    basic = {
        "count": value.count(),
        "nulls": value.null_count(),
        "distinct": value.drop_nulls().approx_n_unique(),
    }
    if kind.is_nested() or kind == pl.Binary:
        return {key: basic[key] for key in ("count", "nulls")}
    if column is not None and column.sensitive:
        return basic
    basic |= {"min": value.min(), "max": value.max()}
    if not kind.is_numeric():
        return basic
    # All of them in one: the engine plans single quantiles in time quadratic in their number.
    quantiles = value.quantile(list(_QUANTILES), "linear")
    return basic | {"mean": value.mean(), "std": value.std(), "quantiles": quantiles}


def _countable(kind: pl.DataType, column: Column | None) -> bool:
    import polars as pl

    if column is not None and column.sensitive:
        return False
    if column is not None and column.allowed is not None:
        return True
    return kind in (pl.String, pl.Boolean)
