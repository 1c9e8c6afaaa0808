"""Categories: one-hot, ordinal, and the mean of the target with cross-fitting.

References
----------
Micci-Barreca (2001), A preprocessing scheme for high-cardinality categorical attributes, SIGKDD
Explorations 3; Pargent et al. (2022), Regularized target encoding outperforms traditional methods,
Computational Statistics 37, on why training rows must not see their own target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from etl_ml.spec.error import EtlMlError
from etl_ml.transform.split import shuffled

Array = np.ndarray[Any, Any]

MISSING = ""
"""The category of missing values under `impute: constant`; an empty text cell is always null."""
ONE_HOT_MOST = 20
"""Categories up to which `auto` is one-hot."""
_FEATURES_MOST = 1_000
_INNER_FOLDS = 5


class TooManyCategories(EtlMlError):
    """A column that one-hot encoding would turn into thousands of features."""


def learn_levels(
    name: str, values: pl.Series, *, impute: str, encode: str, y: Array | None, classes: int
) -> dict[str, Any]:
    """Fill, categories in order, how they are encoded, and under `target` their encodings.

    Parameters
    ----------
    y : array (n,), 0..k-1 or numbers; needed for target encoding
    classes : k; 0 for numbers

    Raises
    ------
    TooManyCategories
        `one_hot` was asked for, and there are more than 1,000.
    """
    present = values.drop_nulls()
    fill: str | None = MISSING
    if impute == "most_frequent":
        fill = str(present.mode().min()) if len(present) else None
    levels = values.fill_null(fill) if fill is not None else present
    categories = [str(level) for level in levels.unique().sort()]
    if encode == "auto":
        encode = "one_hot" if len(categories) <= ONE_HOT_MOST else "target"
    if encode == "one_hot" and len(categories) > _FEATURES_MOST:
        raise TooManyCategories(
            f"column {name!r} has {len(categories):,} categories; one-hot encoding takes up to "
            f"{_FEATURES_MOST:,}.",
            where="features.categorical.encode",
            fix="use auto, or target",
        )
    learned: dict[str, Any] = {"fill": fill, "categories": categories, "encode": encode}
    if encode == "target" and categories:
        if y is None:
            raise ValueError(f"column {name!r} is encoded by the target: fit needs y")
        codes = codes_of(values, learned)
        encodings, prior = _encodings(codes, y, len(categories), classes)
        learned |= {"encodings": encodings.tolist(), "prior": prior.tolist()}
    return learned


def codes_of(values: pl.Series, learned: Mapping[str, Any]) -> Array:
    """The place of each row's category: int64 array (n,); -1 where it is none of them."""
    fill, categories = learned["fill"], learned["categories"]
    levels = values if fill is None else values.fill_null(fill)
    codes = levels.cast(pl.Enum(categories), strict=False).to_physical()
    return codes.cast(pl.Int64).fill_null(-1).to_numpy()


def cross_fitted(
    codes: Array, y: Array, units: Array, learned: Mapping[str, Any], classes: int, seed: int
) -> Array:
    """Target encodings of training rows, each learned from rows of other units: float64 (k, n)."""
    place, _ = shuffled(units, seed)
    fold = place % _INNER_FOLDS
    found = np.empty((len(learned["encodings"]), len(codes)))
    for number in range(_INNER_FOLDS):
        held_out = fold == number
        inside = ~held_out
        if not inside.any():
            found[:, held_out] = np.asarray(learned["prior"])[:, None]
            continue
        size = len(learned["categories"])
        encodings, prior = _encodings(codes[inside], y[inside], size, classes)
        found[:, held_out] = _looked_up(encodings, prior, codes[held_out])
    return found


def _looked_up(encodings: Array, prior: Array, codes: Array) -> Array:
    table = np.concatenate([encodings, prior[:, None]], axis=1)
    looked_up: Array = table[:, codes]  # -1 is the last column: the prior
    return looked_up


def _encodings(codes: Array, y: Array, size: int, classes: int) -> tuple[Array, Array]:
    """Scikit-learn's TargetEncoder, `smooth="auto"`: (k, size), and the prior (k,).

    A category that these rows lack has the prior.
    """
    from sklearn.preprocessing import TargetEncoder

    known = codes >= 0
    # A fold may lack a class: the encoder is asked one class at a time, each against the rest.
    targets = [y] if classes == 0 else [y == c for c in ([1] if classes == 2 else range(classes))]
    encodings, priors = [], []
    for target in targets:
        values = np.asarray(target, np.float64)
        encoder = TargetEncoder(categories=[np.arange(size)], target_type="continuous")
        encoder.fit(codes[known, None], values[known])
        encodings.append(encoder.encodings_[0])
        priors.append(float(encoder.target_mean_))
    return np.asarray(encodings), np.asarray(priors)


def one_hot_names(name: str, learned: Mapping[str, Any], *, sensitive: bool) -> list[str]:
    """Names of a column's one-hot features, in the order of `codes_of`."""
    return [
        f"{name}={f'#{place}' if sensitive else category}"
        for place, category in enumerate(learned["categories"], start=1)
    ]


def feature_expressions(name: str, learned: Mapping[str, Any]) -> dict[str, pl.Expr]:
    """Features by name, of a column that is not one-hot."""
    fill, categories = learned["fill"], learned["categories"]
    level = pl.col(name) if fill is None else pl.col(name).fill_null(fill)
    if learned["encode"] == "target":
        if not categories:
            return {}
        several = len(learned["prior"]) > 1
        return {
            f"{name}:{place}" if several else name: _replaced(level, categories, codes, prior)
            for place, (codes, prior) in enumerate(
                zip(learned["encodings"], learned["prior"], strict=True)
            )
        }
    codes = list(map(float, range(len(categories))))
    return {name: _replaced(level, categories, codes, -1.0)}


def _replaced(
    level: pl.Expr, categories: list[str], values: list[float], default: float
) -> pl.Expr:
    known = level.replace_strict(categories, values, default=default, return_dtype=pl.Float64)
    return known.fill_null(default)
