"""Whether new rows come from where the known ones came from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import ROW
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

TOO_FEW = 200
_LEAST_EXPECTED = 5
_NUMBERS = ("integer", "float")
_LEVELS = ("boolean", "string", "category")


def drift(
    valid: pl.LazyFrame,
    reference: pl.LazyFrame | None,
    pipeline: Pipeline,
    *,
    version: str | None = None,
) -> dict[str, Any]:
    """Compare the rows that the reference has not seen with the reference, column by column.

    A column has drifted when its p-value, adjusted for the number of columns, is at most
    `false_discovery_rate`, and its effect at least `min_effect`. Under 200 new rows nothing is
    said. Where over half of the rows are new, all rows are compared.

    Parameters
    ----------
    valid, reference : lazy frames of valid rows with `_etl_ml_row`; None where there is none
    version : the reference's version, for the report

    Returns
    -------
    dict
        What `drift_report.json` holds. Numbers: two-sample Kolmogorov-Smirnov test, effect its
        distance, beside it the first Wasserstein distance in standard deviations of the reference.
        Levels: chi-square test of homogeneity with rare levels pooled, effect the total variation
        less its expectation without drift. Both effects run from 0 to 1.

    References
    ----------
    Hodges (1958), The significance probability of the Smirnov two-sample test, Ark. Mat. 3.
    Benjamini and Hochberg (1995), Controlling the false discovery rate, JRSS B 57.
    """
    report: dict[str, Any] = {"reference": version, "rows_compared": 0, "drifted": False}
    if reference is None:
        return report | {"verdict": "no reference yet: nothing to compare with", "columns": {}}
    fresh = _unseen(valid, reference)
    columns, types = pipeline.contract.columns, (valid.collect_schema(), reference.collect_schema())
    rows = _length(fresh)
    report["rows_compared"] = rows
    if rows < TOO_FEW:
        verdict = f"too few: {rows} new rows, {TOO_FEW} are needed"
        return report | {"verdict": verdict, "columns": {}}
    tests: dict[str, dict[str, Any]] = {}
    for name, column in columns.items():
        if name in pipeline.contract.primary_key or name not in types[1]:
            continue
        now, then = (schema[name] for schema in types)
        if now != then and not (now.is_numeric() and then.is_numeric()):
            continue  # the contract has changed: there is nothing to compare
        if column.type in _NUMBERS:
            tests[name] = _numbers(_values(reference, name), _values(fresh, name))
        elif column.type in _LEVELS:
            tests[name] = _levels(reference, fresh, name)
    _judge(tests, pipeline)
    drifted = [name for name, test in tests.items() if test["drifted"]]
    report["drifted"] = bool(drifted)
    verdict = f"{len(drifted)} of {len(tests)} columns have drifted"
    return report | {
        "verdict": verdict + (f": {', '.join(drifted)}" if drifted else ""),
        "columns": tests,
        "not_compared": [name for name in columns if name not in tests],
    }


def _unseen(valid: pl.LazyFrame, reference: pl.LazyFrame) -> pl.LazyFrame:
    fresh = valid.join(reference.select(ROW), on=ROW, how="anti")
    return valid if 2 * _length(fresh) > _length(valid) else fresh


def _length(rows: pl.LazyFrame) -> int:
    import polars as pl

    return int(rows.select(pl.len()).collect(engine="streaming").item())


def _values(rows: pl.LazyFrame, name: str) -> np.ndarray[Any, Any]:
    """A column's values without nulls, as float64."""
    import polars as pl

    column = rows.select(pl.col(name).cast(pl.Float64)).drop_nulls().collect(engine="streaming")
    return column.to_series().to_numpy()


def _numbers(reference: np.ndarray[Any, Any], fresh: np.ndarray[Any, Any]) -> dict[str, Any]:
    from scipy import stats

    if not len(reference) or not len(fresh):
        return _untested("ks")
    test = stats.ks_2samp(reference, fresh, method="asymp")
    spread = float(reference.std())
    distance = float(stats.wasserstein_distance(reference, fresh))
    return {
        "test": "ks",
        "statistic": float(test.statistic),
        "p_value": float(test.pvalue),
        "effect": float(test.statistic),
        "wasserstein": distance / spread if spread else None,
    }


def _levels(reference: pl.LazyFrame, fresh: pl.LazyFrame, name: str) -> dict[str, Any]:
    import numpy as np
    import polars as pl
    from scipy import stats

    known, new = (
        rows.group_by(name).agg(pl.len().cast(pl.Float64).alias("n")) for rows in (reference, fresh)
    )
    both = known.join(new, on=name, how="full", nulls_equal=True, suffix="_new").fill_null(0.0)
    counts = both.select("n", "n_new").collect(engine="streaming").to_numpy().T
    totals = counts.sum(axis=1, keepdims=True)
    share = counts.sum(axis=0) / totals.sum()
    rare = (totals.min() * share) < _LEAST_EXPECTED
    pooled = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    if pooled.shape[1] < 2:
        return _untested("chi2")
    test = stats.chi2_contingency(pooled, correction=False)
    p = pooled.sum(axis=0) / totals.sum()
    variation = 0.5 * float(np.abs(np.subtract(*(pooled / totals))).sum())
    # Without drift a level's difference is normal about 0, and E|N(0, s)| = s sqrt(2 / pi).
    deviation = np.sqrt(p * (1 - p) * (1 / totals).sum())
    expected = 0.5 * math.sqrt(2 / math.pi) * float(deviation.sum())
    return {
        "test": "chi2",
        "statistic": float(test.statistic),
        "p_value": float(test.pvalue),
        "effect": max(0.0, variation - expected),
    }


def _untested(test: str) -> dict[str, Any]:
    return {"test": test, "statistic": None, "p_value": 1.0, "effect": 0.0}


def _judge(tests: dict[str, dict[str, Any]], pipeline: Pipeline) -> None:
    from scipy import stats

    if not tests:
        return
    limits = pipeline.validation.drift
    adjusted = stats.false_discovery_control([t["p_value"] for t in tests.values()], method="bh")
    for test, p in zip(tests.values(), adjusted, strict=True):
        test["p_adjusted"] = float(p)
        test["drifted"] = bool(
            p <= limits.false_discovery_rate and test["effect"] >= limits.min_effect
        )
