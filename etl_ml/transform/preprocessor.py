"""From contracted columns to float32 features; everything learned is learned from training rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, TransformerMixin

from etl_ml.spec.contract import Column
from etl_ml.spec.error import EtlMlError, bounded, listed, nearest
from etl_ml.spec.transformation import Features
from etl_ml.validate.casting import cast, polars_type, present

if TYPE_CHECKING:
    import pandas as pd

    Frame = pl.DataFrame | pd.DataFrame

MISSING = ""
"""The category of missing values under `impute: constant`; an empty text cell is always null."""
_ONE_HOT_MOST = 20
_FLOAT32 = float(np.finfo(np.float32).max)
_EPSILON = float(np.finfo(np.float64).eps)
_PARTS = {
    "year": "year",
    "month": "month",
    "day": "day",
    "day_of_week": "weekday",
    "hour": "hour",
}


class UnusableFrame(EtlMlError):
    """A frame that lacks a feature column, or holds what its type cannot."""


class Preprocessor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Outlier limits, imputing, scaling and encoding in one columnar step.

    Parameters
    ----------
    columns : contracted type by name, of the feature columns in order
    numeric_impute : mean | median | most_frequent | constant (0)
    scale : none | standard | robust | minmax, as scikit-learn's scalers
    outliers : none | iqr (factor interquartile ranges beyond the quartiles) | zscore (factor
        standard deviations from the mean)
    outlier_action : clip to the limit | null, which is then imputed
    categorical_impute : most_frequent | constant (missing is a category of its own)
    encode : one_hot | ordinal | auto (one-hot up to 20 categories, ordinal above)
    datetime_parts : year, month, day, day_of_week (Monday 1), hour; UTC
    sensitive : columns whose values are in no name and no message

    Attributes
    ----------
    learned_ : per column what was learned: limits, fill, center and scale, or categories
    feature_names_out_ : names of the k features

    Notes
    -----
    An unseen category is all zeros one-hot, -1 ordinal; a missing date's parts are -1. White space
    around text never counts, and empty text is missing. A column without any value in training is
    filled with 0, or has no category. Numbers and features beyond float32 are clipped to its range.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        *,
        numeric_impute: str = "median",
        scale: str = "none",
        outliers: str = "none",
        outlier_factor: float = 3.0,
        outlier_action: str = "clip",
        categorical_impute: str = "most_frequent",
        encode: str = "auto",
        datetime_parts: Sequence[str] = ("year", "month", "day_of_week", "hour"),
        sensitive: Sequence[str] = (),
    ) -> None:
        self.columns = columns
        self.numeric_impute = numeric_impute
        self.scale = scale
        self.outliers = outliers
        self.outlier_factor = outlier_factor
        self.outlier_action = outlier_action
        self.categorical_impute = categorical_impute
        self.encode = encode
        self.datetime_parts = datetime_parts
        self.sensitive = sensitive

    @classmethod
    def of(cls, columns: Mapping[str, Column], features: Features) -> Self:
        """The preprocessor that a pipeline's `features:` asks for."""
        return cls(
            {name: column.type for name, column in columns.items()},
            numeric_impute=features.numeric.impute,
            scale=features.numeric.scale,
            outliers=features.outliers.method,
            outlier_factor=features.outliers.factor,
            outlier_action=features.outliers.action,
            categorical_impute=features.categorical.impute,
            encode=features.categorical.encode,
            datetime_parts=list(features.datetime.parts),
            sensitive=[name for name, column in columns.items() if column.sensitive],
        )

    def fit(self, X: Frame, y: object = None) -> Self:
        """Learn from training rows: a pandas or Polars frame with the columns by name."""
        frame = self._typed(X)
        self.learned_: dict[str, dict[str, Any]] = {}
        for name, kind in self.columns.items():
            if _is_moment(kind):
                self.learned_[name] = {}
            elif _is_text(kind):
                self.learned_[name] = self._learn_levels(frame[name])
            else:
                self.learned_[name] = self._learn_number(frame[name])
        self.feature_names_out_: list[str] = _distinct(
            feature for name in self.columns for feature in self._expressions(name)
        )
        self.n_features_in_ = len(self.columns)
        return self

    def transform(self, X: Frame) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Features of n rows: float32 array (n, k), without NaN.

        Raises
        ------
        UnusableFrame
            A column is missing, or holds what its contracted type cannot. Other columns and the
            order of columns do not matter.
        """
        frame = self._typed(X)
        wanted = (e for name in self.columns for e in self._expressions(name).values())
        features = frame.select(
            expression.clip(-_FLOAT32, _FLOAT32).cast(pl.Float32).alias(str(place))
            for place, expression in enumerate(wanted)
        )
        shape = (len(frame), len(self.feature_names_out_))
        return np.ascontiguousarray(features.to_numpy(), dtype=np.float32).reshape(shape)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray[Any, Any]:
        """Names of the features, in order."""
        return np.asarray(self.feature_names_out_, dtype=object)

    def source_of(self) -> list[str]:
        """The column that each feature comes from, in the features' order."""
        return [name for name in self.columns for _ in self._expressions(name)]

    def _typed(self, X: Frame) -> pl.DataFrame:
        names = list(X.columns)
        missing = [name for name in self.columns if name not in names]
        if missing:
            close = nearest(missing[0], names)
            raise UnusableFrame(
                f"the frame has no column {listed(map(repr, missing))}.",
                seen=f"its columns are {listed(names)}",
                close=repr(close) if close else None,
                fix="give the columns that the model was trained on, by name",
            )
        wanted = list(self.columns)
        frame = self._native(X, wanted)
        exact: list[pl.Expr] = []
        for name, kind in self.columns.items():
            source, target = frame.schema[name], polars_type(kind)  # type: ignore[arg-type]
            if source == target and not (source.is_float() or source == pl.String):
                continue
            if source.is_nested() or source in (pl.Binary, pl.Object):
                if frame[name].null_count() < len(frame):
                    self._refuse(name, f"its type is {source}")
                exact.append(pl.lit(None, target).alias(name))
                continue
            value, _ = present(pl.col(name), source, ())
            column = Column(type=kind)  # type: ignore[arg-type]
            exact.append(cast(value, source, column).cast(target).alias(name))
        typed = frame.with_columns(exact)
        for name in wanted:
            if typed[name].null_count() > frame[name].null_count():
                self._refuse_lost(name, frame[name], typed[name])
        return typed

    def _refuse_lost(self, name: str, before: pl.Series, after: pl.Series) -> None:
        there = frame_present(before)
        lost = before.filter(there & after.is_null())
        if len(lost):
            self._refuse(name, None if name in self.sensitive else bounded(lost[0]))

    def _refuse(self, name: str, seen: str | None) -> NoReturn:
        raise UnusableFrame(
            f"column {name!r} holds a value that is not of type {self.columns[name]}.",
            seen=seen,
            fix=f"give {name} as {self.columns[name]}, or null",
        )

    def _native(self, X: Frame, wanted: list[str]) -> pl.DataFrame:
        """The wanted columns as Polars has them; categories are text, as they were given."""
        frame = None
        if isinstance(X, pl.DataFrame):
            frame = X.select(wanted)
        else:
            with suppress(TypeError, ValueError, NotImplementedError):
                frame = pl.from_pandas(X[wanted])
        if frame is None:  # one by one, to find the column that does not convert
            frame = pl.DataFrame([self._from_pandas(X, name) for name in wanted])
        categories = [n for n, kind in frame.schema.items() if kind in (pl.Categorical, pl.Enum)]
        return frame.with_columns(pl.col(categories).cast(pl.String)) if categories else frame

    def _from_pandas(self, X: Any, name: str) -> pl.Series:
        if list(X.columns).count(name) > 1:
            raise UnusableFrame(f"the frame has two columns {name!r}.", fix="rename one of them")
        # Arrow's own message shows a value, which may be sensitive.
        with suppress(TypeError, ValueError, NotImplementedError):
            return pl.Series(name, pl.from_pandas(X[name]))
        self._refuse(name, "its values are of several types")

    def _learn_number(self, values: pl.Series) -> dict[str, float | None]:
        values = pl.select(_number(pl.lit(values))).to_series()
        learned = dict(
            zip(("low", "high"), self._limits(values.drop_nulls().to_numpy()), strict=True)
        )
        limited = pl.select(self._limited(pl.lit(values), learned)).to_series()
        fill = 0.0
        if limited.null_count() < len(limited) and self.numeric_impute != "constant":
            statistic = limited.drop_nulls()
            if self.numeric_impute == "most_frequent":
                statistic = statistic.mode().sort().head(1)
            known = statistic.to_numpy()
            fill = float(np.mean(known) if self.numeric_impute == "mean" else np.median(known))
        center, scale = self._center_and_scale(limited.fill_null(fill).to_numpy())
        # As scikit-learn: a constant column is centered and not divided.
        return learned | {"fill": fill, "center": center, "scale": scale or 1.0}

    def _limits(self, known: np.ndarray[Any, Any]) -> tuple[float | None, float | None]:
        if not len(known) or self.outliers == "none":
            return None, None
        if self.outliers == "iqr":
            low, high = map(float, np.quantile(known, [0.25, 0.75]))
            reach = self.outlier_factor * (high - low)
        else:
            low = high = float(known.mean())
            reach = self.outlier_factor * float(known.std())
        return low - reach, high + reach

    def _center_and_scale(self, filled: np.ndarray[Any, Any]) -> tuple[float, float]:
        if not len(filled) or self.scale == "none":
            return 0.0, 1.0
        if self.scale == "standard":
            center, scale = float(filled.mean()), float(filled.std())
            # Nothing but the rounding of the mean.
            return center, 0.0 if scale <= len(filled) * _EPSILON * abs(center) else scale
        if self.scale == "robust":
            low, middle, high = map(float, np.quantile(filled, [0.25, 0.5, 0.75]))
            return middle, high - low
        return float(filled.min()), float(filled.max()) - float(filled.min())

    def _learn_levels(self, values: pl.Series) -> dict[str, Any]:
        present_values = values.drop_nulls()
        fill: str | None = MISSING
        if self.categorical_impute == "most_frequent":
            fill = str(present_values.mode().min()) if len(present_values) else None
        levels = values.fill_null(fill) if fill is not None else present_values
        categories = [str(level) for level in levels.unique().sort()]
        one_hot = self.encode == "one_hot" or (
            self.encode == "auto" and len(categories) <= _ONE_HOT_MOST
        )
        return {"fill": fill, "categories": categories, "one_hot": one_hot}

    def _limited(self, value: pl.Expr, learned: Mapping[str, Any]) -> pl.Expr:
        low, high = learned["low"], learned["high"]
        if low is None:
            return value
        if self.outlier_action == "clip":
            return value.clip(low, high)
        return pl.when(value.is_between(low, high)).then(value)

    def _expressions(self, name: str) -> dict[str, pl.Expr]:
        """A column's features by name."""
        learned, kind, column = self.learned_[name], self.columns[name], pl.col(name)
        if _is_moment(kind):
            parts = [p for p in self.datetime_parts if not (kind == "date" and p == "hour")]
            return {
                f"{name}.{part}": getattr(column.dt, _PARTS[part])()
                .cast(pl.Float64)
                .fill_null(-1.0)
                for part in parts
            }
        if not _is_text(kind):
            filled = self._limited(_number(column), learned).fill_null(learned["fill"])
            return {name: (filled - learned["center"]) / learned["scale"]}
        level = column if learned["fill"] is None else column.fill_null(learned["fill"])
        categories = learned["categories"]
        if learned["one_hot"]:
            return {
                f"{name}={f'#{place}' if name in self.sensitive else category}": (
                    (level == category).fill_null(False).cast(pl.Float64)
                )
                for place, category in enumerate(categories, start=1)
            }
        codes = list(map(float, range(len(categories))))
        code = level.replace_strict(categories, codes, default=-1.0, return_dtype=pl.Float64)
        return {name: code.fill_null(-1.0)}


def frame_present(values: pl.Series) -> pl.Series:
    """Which cells of a frame column hold a value."""
    _, there = present(pl.col(values.name), values.dtype, ())
    return values.to_frame().select(there).to_series()


def _number(values: pl.Expr) -> pl.Expr:
    """As float64 within float32's range, so that neither sums nor squares overflow."""
    return values.cast(pl.Float64).clip(-_FLOAT32, _FLOAT32)


def _distinct(names: Iterable[str]) -> list[str]:
    """The names; one that came before is told apart by a mark."""
    found: dict[str, None] = {}
    for name in names:
        distinct = name
        while distinct in found:
            distinct += "'"
        found[distinct] = None
    return list(found)


def _is_text(kind: str) -> bool:
    return kind in ("string", "category")


def _is_moment(kind: str) -> bool:
    return kind in ("date", "datetime")
