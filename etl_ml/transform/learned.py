"""What a preprocessor has learned, and how rows become features by it; without scikit-learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from etl_ml.spec.contract import MOMENTS, TEXTS
from etl_ml.transform.categorical import codes_of, feature_expressions, one_hot_names
from etl_ml.transform.function import call_function
from etl_ml.transform.numeric import FLOAT32, fill_by_neighbours, filled_name, limited, number
from etl_ml.transform.typed_frame import typed_frame

if TYPE_CHECKING:
    from etl_ml.transform.preprocessor import Preprocessor
    from etl_ml.transform.typed_frame import Frame

Array = np.ndarray[Any, Any]

FORMAT = 2
"""Of what a fitted preprocessor holds; one of another format cannot transform."""

_BLOCK = 2048
"""Rows whose features stay in a processor's cache while they are put together."""

_PARTS = {
    "year": "year",
    "month": "month",
    "day": "day",
    "day_of_week": "weekday",
    "hour": "hour",
}


@dataclass(frozen=True)
class Learned:
    """What a preprocessor learned from its training rows, and nothing else.

    Attributes
    ----------
    columns : contracted type by name, of the columns that rows have
    kinds : type by name, of the columns that features are made of
    by_column : what was learned of each: limits, fill, center and scale, or categories
    datetime_parts : what is taken of dates
    sensitive : columns whose values are in no name and no message
    function : module:function that makes the columns of `kinds`, if any
    neighbours : scikit-learn's KNNImputer, if one fills the numbers
    """

    columns: Mapping[str, str]
    kinds: Mapping[str, str]
    by_column: Mapping[str, Mapping[str, Any]]
    datetime_parts: Sequence[str]
    sensitive: Sequence[str] = ()
    function: str | None = None
    neighbours: Any = None

    def transform(self, X: Frame) -> Array:
        """Features of n rows: float32 array (n, k), without NaN.

        Raises
        ------
        UnusableFrame
            A column is missing, or holds what its contracted type cannot. Other columns and the
            order of columns do not matter.
        """
        return self.features(self.completed(self.derived(X)))

    def derived(self, X: Frame) -> pl.DataFrame:
        """The typed columns, or what the user's function makes of them."""
        frame = typed_frame(X, self.columns, self.sensitive)
        if self.function is None:
            return frame
        found = call_function(self.function, frame, sensitive=bool(self.sensitive))
        return self.made(found)

    def made(self, found: pl.DataFrame) -> pl.DataFrame:
        """What the function made, in the types that it had in training."""
        # What a function makes of sensitive columns is sensitive.
        hidden = list(self.kinds) if self.sensitive else []
        return typed_frame(found, self.kinds, hidden, f"what {self.function} returned")

    def completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """With the numbers that neighbours fill, where that was asked for."""
        if self.neighbours is None:
            return frame
        numbers = [name for name, kind in self.kinds.items() if is_number(kind)]
        values = frame.select(
            limited(number(pl.col(name)), self.by_column[name]).alias(name) for name in numbers
        )
        return frame.with_columns(fill_by_neighbours(values, self.neighbours))

    def features(self, frame: pl.DataFrame) -> Array:
        """Features of columns in their contracted types, completed: float32 array (n, k)."""
        plan = self._plan
        numbers = frame.select(plan.expressions)
        columns = [(place, numbers[str(place)].to_numpy()) for place in plan.places]
        codes = [
            (place, width, codes_of(frame[name], self.by_column[name]))
            for name, (place, width) in plan.one_hot.items()
        ]
        features = np.empty((len(frame), plan.width), np.float32)
        # Column by column a table is written to memory as often as it has columns.
        for start in range(0, len(frame), _BLOCK):
            block = features[start : start + _BLOCK]
            for place, values in columns:
                block[:, place] = values[start : start + _BLOCK]
            for place, width, each in codes:
                # One code a row, and one cell set: no comparison of text for each category.
                block[:, place : place + width] = 0.0
                of_block = each[start : start + _BLOCK]
                known = np.flatnonzero(of_block >= 0)
                block[known, place + of_block[known]] = 1.0
        return features

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the k features, in order, each once."""
        return _distinct(feature for name in self.kinds for feature in self._names(name))

    def source_of(self) -> list[str]:
        """The column that each feature comes from, in the features' order."""
        return [name for name in self.kinds for _ in self._names(name)]

    @cached_property
    def _plan(self) -> _Plan:
        one_hot: dict[str, tuple[int, int]] = {}
        wanted: dict[int, pl.Expr] = {}
        place = 0
        for name in self.kinds:
            width = len(self._names(name))
            if self._is_one_hot(name):
                one_hot[name] = place, width
            else:
                wanted |= dict(enumerate(self._expressions(name).values(), start=place))
            place += width
        expressions = [
            expression.clip(-FLOAT32, FLOAT32).cast(pl.Float32).alias(str(place))
            for place, expression in wanted.items()
        ]
        return _Plan(place, one_hot, list(wanted), expressions)

    def _is_one_hot(self, name: str) -> bool:
        return self.by_column[name].get("encode") == "one_hot"

    def _names(self, name: str) -> list[str]:
        """Names of a column's features."""
        if not self._is_one_hot(name):
            return list(self._expressions(name))
        hidden = bool(self.sensitive) and (self.function is not None or name in self.sensitive)
        return one_hot_names(name, self.by_column[name], sensitive=hidden)

    def _expressions(self, name: str) -> dict[str, pl.Expr]:
        """Features by name, of a column that is not one-hot."""
        learned, kind = self.by_column[name], self.kinds[name]
        if kind in MOMENTS:
            return {
                f"{name}.{part}": getattr(pl.col(name).dt, _PARTS[part])()
                .cast(pl.Float64)
                .fill_null(-1.0)
                for part in parts_of(kind, self.datetime_parts)
            }
        if kind in TEXTS:
            return feature_expressions(name, learned)
        value = limited(number(pl.col(name)), learned)
        known = pl.col(filled_name(name)) if self.neighbours else value.fill_null(learned["fill"])
        features = {name: (known - learned["center"]) / learned["scale"]}
        if learned["indicator"]:
            features[f"{name}.missing"] = value.is_null().cast(pl.Float64)
        return features


@dataclass(frozen=True)
class _Plan:
    """How many features there are, where one-hot columns begin and how many features they have,
    and the places and expressions of the rest.
    """

    width: int
    one_hot: Mapping[str, tuple[int, int]]
    places: Sequence[int]
    expressions: Sequence[pl.Expr]


def parts_of(kind: str, parts: Sequence[str]) -> list[str]:
    """The parts that a date or a datetime has."""
    return [part for part in parts if not (kind == "date" and part == "hour")]


def is_number(kind: str) -> bool:
    """Whether the features of a column of this type are its values."""
    return kind not in MOMENTS and kind not in TEXTS


def preprocessor_document(preprocessor: Preprocessor) -> dict[str, Any] | None:
    """What `preprocessor.json` holds: enough to make features without scikit-learn.

    None where more is needed (a user's function, neighbours), and where a column is sensitive:
    what was learned of it stays in the model.
    """
    learned = preprocessor.fitted
    if learned.function is not None or learned.neighbours is not None or learned.sensitive:
        return None
    return {
        "format": FORMAT,
        "columns": dict(learned.columns),
        "kinds": dict(learned.kinds),
        "by_column": {name: dict(found) for name, found in learned.by_column.items()},
        "datetime_parts": list(learned.datetime_parts),
    }


def read_document(document: Mapping[str, Any]) -> Learned:
    """What `preprocessor_document` wrote.

    Raises
    ------
    ValueError
        It is of another format, or was not written by `preprocessor_document`.
    """
    if (found := document.get("format")) != FORMAT:
        raise ValueError(f"it is of format {found}; this version of etl_ml reads format {FORMAT}")
    try:
        learned = Learned(
            columns=dict(document["columns"]),
            kinds=dict(document["kinds"]),
            by_column={name: dict(each) for name, each in document["by_column"].items()},
            datetime_parts=tuple(document["datetime_parts"]),
        )
        _ = learned._plan
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return learned


def _distinct(names: Iterable[str]) -> list[str]:
    """The names; one that came before is told apart by a mark."""
    found: dict[str, None] = {}
    for name in names:
        distinct = name
        while distinct in found:
            distinct += "'"
        found[distinct] = None
    return list(found)
