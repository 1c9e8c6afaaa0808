"""From contracted columns to float32 features; everything learned is learned from training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, TransformerMixin

from etl_ml.spec.contract import MOMENTS, TEXTS, Column
from etl_ml.spec.transformation import Features
from etl_ml.transform.categorical import codes_of, cross_fitted, learn_levels
from etl_ml.transform.function import FeatureFunctionError, call_function, kind_of
from etl_ml.transform.learned import FORMAT, Learned
from etl_ml.transform.numeric import (
    FLOAT32,
    filled_name,
    learn_fill,
    learn_limits,
    learn_neighbours,
    learn_scale,
    limited,
    number,
)
from etl_ml.transform.typed_frame import UnusableFrame, typed_frame

if TYPE_CHECKING:
    from etl_ml.transform.typed_frame import Frame

__all__ = ["Preprocessor", "UnusableFrame"]

Array = np.ndarray[Any, Any]


class Preprocessor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The user's function, outlier limits, imputing, scaling and encoding in one columnar step.

    Parameters
    ----------
    columns : contracted type by name, of the feature columns in order
    numeric_impute : mean | median | most_frequent | constant (0) | knn (five neighbours among at
        most 10,000 training rows, as scikit-learn's KNNImputer)
    add_indicator : one more feature where a number was missing in training, as scikit-learn's
        SimpleImputer
    scale : none | standard | robust | minmax, as scikit-learn's scalers
    outliers : none | iqr (factor interquartile ranges beyond the quartiles) | zscore (factor
        standard deviations from the mean)
    outlier_action : clip to the limit | null, which is then imputed
    categorical_impute : most_frequent | constant (missing is a category of its own)
    encode : one_hot | ordinal | target (scikit-learn's TargetEncoder, cross-fitted) | auto (one-hot
        up to 20 categories, target above)
    datetime_parts : year, month, day, day_of_week (Monday 1), hour; UTC
    function : module:function, from a pandas frame of the columns to one with a row for each
    classes : number of classes of the target, 0 where it is a number
    seed : for the folds of cross-fitting
    sensitive : columns whose values are in no name and no message

    Attributes
    ----------
    kinds_ : type by name, of the columns that features are made of
    format_ : the format of what follows
    learned_ : per column what was learned: limits, fill, center and scale, or categories
    feature_names_out_ : names of the k features
    depends_on_rows_ : whether features rest on the target or on neighbours, so that they have to
        be learned anew inside each fold

    Notes
    -----
    An unseen category is all zeros one-hot, -1 ordinal, and has the mean of the target under
    target; a missing date's parts are -1. White space around text never counts, and empty text is
    missing. A column without any value in training is filled with 0, or has no category. Numbers
    and features beyond float32 are clipped to its range.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        *,
        numeric_impute: str = "median",
        add_indicator: bool = False,
        scale: str = "none",
        outliers: str = "none",
        outlier_factor: float = 3.0,
        outlier_action: str = "clip",
        categorical_impute: str = "most_frequent",
        encode: str = "auto",
        datetime_parts: Sequence[str] = ("year", "month", "day_of_week", "hour"),
        function: str | None = None,
        classes: int = 2,
        seed: int = 42,
        sensitive: Sequence[str] = (),
    ) -> None:
        self.columns = columns
        self.numeric_impute = numeric_impute
        self.add_indicator = add_indicator
        self.scale = scale
        self.outliers = outliers
        self.outlier_factor = outlier_factor
        self.outlier_action = outlier_action
        self.categorical_impute = categorical_impute
        self.encode = encode
        self.datetime_parts = datetime_parts
        self.function = function
        self.classes = classes
        self.seed = seed
        self.sensitive = sensitive

    @classmethod
    def of(
        cls, columns: Mapping[str, Column], features: Features, *, classes: int = 2, seed: int = 42
    ) -> Self:
        """The preprocessor that a pipeline's `features:` asks for."""
        return cls(
            {name: column.type for name, column in columns.items()},
            numeric_impute=features.numeric.impute,
            add_indicator=features.numeric.add_indicator,
            scale=features.numeric.scale,
            outliers=features.outliers.method,
            outlier_factor=features.outliers.factor,
            outlier_action=features.outliers.action,
            categorical_impute=features.categorical.impute,
            encode=features.categorical.encode,
            datetime_parts=list(features.datetime.parts),
            function=features.function,
            classes=classes,
            seed=seed,
            sensitive=[name for name, column in columns.items() if column.sensitive],
        )

    def fit(self, X: Frame, y: Any = None) -> Self:
        """Learn from training rows: a pandas or Polars frame with the columns by name.

        Parameters
        ----------
        y : array (n,), 0..k-1 or numbers; needed where a column is encoded by the target

        Raises
        ------
        UnusableFrame, FeatureFunctionError, TooManyRows, TooManyCategories
        """
        self._learn(self._derived(X), y)
        return self

    def fit_transform(self, X: Frame, y: Any = None, units: Any = None) -> Array:
        """Learn from training rows, and give their features.

        Where a column is encoded by the target, a row's encoding is learned from rows of other
        units, five parts of them: no row sees its own target.

        Parameters
        ----------
        units : int array (n,); rows with one number belong together, each alone by default
        """
        frame = self._learn(self._derived(X), y)
        features = self.fitted.features(frame)
        encoded = [n for n, learned in self.learned_.items() if learned.get("encodings")]
        if not encoded:
            return features
        units = np.arange(len(frame)) if units is None else np.asarray(units)
        source = np.asarray(self.source_of())
        for name in encoded:
            learned = self.learned_[name]
            codes = codes_of(frame[name], learned)
            found = cross_fitted(codes, np.asarray(y), units, learned, self.classes, self.seed)
            features[:, source == name] = found.clip(-FLOAT32, FLOAT32).T
        return features

    def transform(self, X: Frame) -> Array:
        """Features of n rows: float32 array (n, k), without NaN.

        Raises
        ------
        UnusableFrame
            A column is missing, or holds what its contracted type cannot. Other columns and the
            order of columns do not matter.
        """
        return self.fitted.transform(X)

    def get_feature_names_out(self, input_features: object = None) -> Array:
        """Names of the features, in order."""
        return np.asarray(self.feature_names_out_, dtype=object)

    def source_of(self) -> list[str]:
        """The column that each feature comes from, in the features' order."""
        return self.fitted.source_of()

    @property
    def fitted(self) -> Learned:
        """What was learned, which is all that `transform` goes by."""
        return Learned(
            columns=self.columns,
            kinds=self.kinds_,
            by_column=self.learned_,
            datetime_parts=self.datetime_parts,
            sensitive=self.sensitive,
            function=self.function,
            neighbours=self.neighbours_,
        )

    def _derived(self, X: Frame) -> pl.DataFrame:
        """The typed columns of training rows, or what the user's function makes of them."""
        self.learned_: dict[str, dict[str, Any]] = {}
        self.neighbours_: Any = None
        frame = typed_frame(X, self.columns, self.sensitive)
        if self.function is None:
            self.kinds_ = dict(self.columns)
            return frame
        found = call_function(self.function, frame, check=True, sensitive=bool(self.sensitive))
        self.kinds_ = self._kinds_of(found)
        return self.fitted.made(found)

    def _kinds_of(self, found: pl.DataFrame) -> dict[str, str]:
        kinds = {}
        for name, dtype in found.schema.items():
            given = self.columns.get(name)
            same = given is not None and _holds(given, dtype)
            kind = given if same else kind_of(dtype)
            if kind is None:
                raise FeatureFunctionError(
                    f"features.function {self.function!r} made column {name!r} of type {dtype}.",
                    where="features.function",
                    fix="make numbers, text, dates or booleans",
                )
            kinds[name] = kind
        return kinds

    def _learn(self, frame: pl.DataFrame, y: Any) -> pl.DataFrame:
        """Learn from derived rows, and give them as `Learned.features` takes them."""
        target = None if y is None else np.asarray(y)
        self.format_ = FORMAT
        limited_numbers: dict[str, pl.Series] = {}
        for name, kind in self.kinds_.items():
            if kind in MOMENTS:
                self.learned_[name] = {}
            elif kind in TEXTS:
                self.learned_[name] = learn_levels(
                    name,
                    frame[name],
                    impute=self.categorical_impute,
                    encode=self.encode,
                    y=target,
                    classes=self.classes,
                )
            else:
                values = pl.select(number(pl.lit(frame[name]))).to_series()
                limits = learn_limits(
                    values, self.outliers, self.outlier_factor, self.outlier_action
                )
                values = pl.select(limited(pl.lit(values), limits)).to_series()
                self.learned_[name] = limits
                limited_numbers[name] = values
        if self.numeric_impute == "knn" and limited_numbers:
            self.neighbours_ = learn_neighbours(pl.DataFrame(limited_numbers))
        frame = self.fitted.completed(frame)
        for name, values in limited_numbers.items():
            fill = learn_fill(values, self.numeric_impute)
            whole = frame[filled_name(name)] if self.neighbours_ else values.fill_null(fill)
            center, scale = learn_scale(whole.to_numpy(), self.scale)
            self.learned_[name] |= {
                "fill": fill,
                "center": center,
                "scale": scale,
                "indicator": self.add_indicator and values.null_count() > 0,
            }
        self.depends_on_rows_ = self.neighbours_ is not None or any(
            "encodings" in learned for learned in self.learned_.values()
        )
        self.feature_names_out_: list[str] = self.fitted.feature_names
        self.n_features_in_ = len(self.columns)
        return frame


def _holds(kind: str, dtype: pl.DataType) -> bool:
    """Whether a column that the function left, or made anew, is still of its contracted type."""
    derived = kind_of(dtype)
    if kind == "integer":
        return dtype.is_integer()
    return derived == kind or (kind == "category" and derived == "string")
