"""Numbers: limits, filling and scaling, learned from training rows.

With values as scikit-learn's SimpleImputer, KNNImputer, StandardScaler, RobustScaler and
MinMaxScaler have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from etl_ml.spec.error import EtlMlError

Array = np.ndarray[Any, Any]

MOST_NEIGHBOURS = 10_000
"""Training rows up to which `impute: knn` compares each incomplete row with every one."""
FLOAT32 = float(np.finfo(np.float32).max) / 4
"""What numbers are clipped to: the difference of two of them is still one of float32."""
_EPSILON = float(np.finfo(np.float64).eps)
_FILLED = "_etl_ml_filled:"


class TooManyRows(EtlMlError):
    """More training rows than an imputation by neighbours is made for."""


def number(values: pl.Expr) -> pl.Expr:
    """As float64 within float32's range, so that neither sums nor squares overflow."""
    return values.cast(pl.Float64).clip(-FLOAT32, FLOAT32)


def limited(value: pl.Expr, learned: Mapping[str, Any]) -> pl.Expr:
    """Within the limits that were learned, or null beyond them."""
    low, high = learned["low"], learned["high"]
    if low is None:
        return value
    if learned["clip"]:
        return value.clip(low, high)
    return pl.when(value.is_between(low, high)).then(value)


def filled_name(name: str) -> str:
    """The column that holds a column's values as its neighbours fill them."""
    return f"{_FILLED}{name}"


def learn_limits(values: pl.Series, method: str, factor: float, action: str) -> dict[str, Any]:
    """Limits of the values that are there: none, quartile fences or standard deviations."""
    clip = action == "clip"
    known = values.drop_nulls().to_numpy() if method != "none" else np.empty(0)
    if not len(known):
        return {"low": None, "high": None, "clip": clip}
    if method == "iqr":
        low, high = map(float, np.quantile(known, [0.25, 0.75]))
        reach = factor * (high - low)
    else:
        low = high = float(known.mean())
        reach = factor * float(known.std())
    return {"low": low - reach, "high": high + reach, "clip": clip}


def learn_fill(values: pl.Series, how: str) -> float:
    """What stands in for a missing value; 0 where there is none to learn from."""
    if how in ("constant", "knn") or values.null_count() == len(values):
        return 0.0
    known = values.drop_nulls()
    if how == "most_frequent":
        known = known.mode().sort().head(1)
    found = known.to_numpy()
    return float(np.mean(found) if how == "mean" else np.median(found))


def learn_scale(filled: Array, how: str) -> tuple[float, float]:
    """Center and divisor; as scikit-learn, a constant column is centered and not divided."""
    if not len(filled) or how == "none":
        return 0.0, 1.0
    if how == "standard":
        center, scale = float(filled.mean()), float(filled.std())
        # Nothing but the rounding of the mean.
        return center, (0.0 if scale <= len(filled) * _EPSILON * abs(center) else scale) or 1.0
    if how == "robust":
        low, middle, high = map(float, np.quantile(filled, [0.25, 0.5, 0.75]))
        return middle, _divisor(high - low)
    return float(filled.min()), _divisor(float(filled.max()) - float(filled.min()))


def _divisor(spread: float) -> float:
    """What is as good as constant is not divided: its own rounding would become the feature."""
    return spread if spread >= 10 * _EPSILON else 1.0


def learn_neighbours(values: pl.DataFrame) -> Any:
    """Scikit-learn's KNNImputer, fitted on the limited numbers of the training rows.

    Raises
    ------
    TooManyRows
        There are more than 10,000: each incomplete row would be compared with all of them.
    """
    from sklearn.impute import KNNImputer

    if len(values) > MOST_NEIGHBOURS:
        raise TooManyRows(
            f"features.numeric.impute: knn compares each incomplete row with every training row, "
            f"and there are {len(values):,}; up to {MOST_NEIGHBOURS:,} are taken.",
            where="features.numeric.impute",
            fix="use median, with add_indicator: true where a missing value means something",
        )
    return KNNImputer(keep_empty_features=True).fit(_with_nan(values))


def fill_by_neighbours(values: pl.DataFrame, imputer: Any) -> list[pl.Series]:
    """The numbers with what the neighbours say where one is missing, under `filled_name`s."""
    matrix = _with_nan(values)
    whole = imputer.transform(matrix) if np.isnan(matrix).any() else matrix
    names: Sequence[str] = values.columns
    return [pl.Series(filled_name(name), whole[:, i]) for i, name in enumerate(names)]


def _with_nan(values: pl.DataFrame) -> Array:
    matrix: Array = values.fill_null(float("nan")).to_numpy().astype(np.float64)
    return matrix
