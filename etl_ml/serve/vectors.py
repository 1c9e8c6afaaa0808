"""Features of many rows in JSON's types: all numbers as one matrix, other cells one by one.

As with a few rows, what is here is checked and computed as `Checker` and `Learned` do, or not at
all. A dataframe's price for each column and expression is larger than the work on a thousand cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from etl_ml.serve.compiled import Cell, NotPlain
from etl_ml.spec.contract import Column
from etl_ml.transform.learned import Learned, is_number
from etl_ml.transform.numeric import FLOAT32

if TYPE_CHECKING:
    from etl_ml.serve.rows import Rows

Array = np.ndarray[Any, Any]

# Up to here every integer is a float64 and back.
_EXACT = 2.0**53
_NONE = type(None)
_TYPES: dict[str, frozenset[type]] = {
    "integer": frozenset({int, _NONE}),
    "float": frozenset({int, float, _NONE}),
    "boolean": frozenset({bool, _NONE}),
}


class Vectors:
    """What a preprocessor learned and what a contract asks, for a matrix of numbers.

    Parameters
    ----------
    inputs : the rules of each column, in the model's order
    learned : what features are made of
    cells : the features of one cell, of the columns that are no numbers
    """

    def __init__(
        self, inputs: Mapping[str, Column], learned: Learned, cells: Mapping[str, Cell]
    ) -> None:
        self._inputs, source = inputs, learned.source_of()
        self._width = len(source)
        first = {name: source.index(name) for name in inputs if name in source}
        self._numbers = [name for name in inputs if is_number(learned.kinds[name])]
        self._others = [
            (name, cells[name], _slice(first.get(name, 0), source.count(name)))
            for name in inputs
            if name not in self._numbers
        ]
        by_column = [learned.by_column[name] for name in self._numbers]
        columns = [inputs[name] for name in self._numbers]
        self._places = np.array([first[name] for name in self._numbers], np.intp)
        self._nullable = np.array([column.nullable for column in columns], bool)
        self._least = _column([_limit(column.min, -np.inf) for column in columns])
        self._most = _column([_limit(column.max, np.inf) for column in columns])
        self._allowed = [
            (row, np.array(column.allowed, np.float64))
            for row, column in enumerate(columns)
            if column.allowed is not None
        ]
        self._whole = np.array([column.type == "integer" for column in columns], bool)
        self._low = _column([_limit(each["low"], -np.inf) for each in by_column])
        self._high = _column([_limit(each["high"], np.inf) for each in by_column])
        self._clips = all(each["clip"] for each in by_column)
        self._fill = _column([each["fill"] for each in by_column])
        self._center = _column([each["center"] for each in by_column])
        self._factor = 1.0 / _column([each["scale"] for each in by_column])
        self._indicators = [row for row, each in enumerate(by_column) if each["indicator"]]

    def features(self, rows: Rows) -> Array | None:
        """Features of n rows: float32 array (n, k); None where a cell is not plainly right."""
        if rows.text or not all(type(rows.columns[name]) is list for name in self._inputs):
            return None
        features = np.empty((rows.count, self._width), np.float32)
        try:
            if self._numbers:
                self._add_numbers(features, rows)
            for name, cell, places in self._others:
                features[:, places] = _each(cell, rows.columns[name], places)
        except NotPlain:
            return None
        return features

    def _add_numbers(self, features: Array, rows: Rows) -> None:
        values = np.empty((len(self._numbers), rows.count))
        for row, name in enumerate(self._numbers):
            values[row] = _floats(rows.columns[name], self._inputs[name].type)
        self._check(values)
        np.clip(values, -FLOAT32, FLOAT32, out=values)
        if self._clips:
            np.clip(values, self._low, self._high, out=values)
        else:
            values[(values < self._low) | (values > self._high)] = np.nan
        missing = np.isnan(values)
        np.copyto(values, np.broadcast_to(self._fill, values.shape), where=missing)
        values -= self._center
        values *= self._factor
        np.clip(values, -FLOAT32, FLOAT32, out=values)
        features[:, self._places] = values.T
        for row in self._indicators:
            features[:, self._places[row] + 1] = missing[row]

    def _check(self, values: Array) -> None:
        """That numbers, NaN where there is none, keep every rule."""
        absent = np.isnan(values)
        broken = np.isinf(values) | (values < self._least) | (values > self._most)
        broken |= absent & ~self._nullable[:, None]
        # Beyond, a limit and a value that differ may be one float: exact arithmetic decides.
        broken[self._whole] |= np.abs(values[self._whole]) > _EXACT
        for row, allowed in self._allowed:
            broken[row] |= ~(absent[row] | np.isin(values[row], allowed))
        if broken.any():
            raise NotPlain


def _floats(cells: list[Any], kind: str) -> list[float]:
    kinds = set(map(type, cells))
    if not kinds <= _TYPES[kind]:
        raise NotPlain
    if _NONE in kinds:
        cells = [np.nan if cell is None else cell for cell in cells]
    if int in kinds and max(map(abs, cells)) > _EXACT:
        raise NotPlain
    return cells


def _each(cell: Cell, cells: list[Any], places: slice) -> Array:
    """Features of cells that are asked one by one, each that repeats once."""
    known: dict[Any, list[float]] = {}
    found = []
    for given in cells:
        if type(given) is not str and given is not None:
            raise NotPlain
        features = known.get(given)
        if features is None:
            known[given] = features = []
            cell(given, features)
        found.append(features)
    width = places.stop - places.start
    return np.array(found, np.float64).reshape(len(cells), width)


def _column(values: Sequence[float]) -> Array:
    return np.array(values, np.float64).reshape(-1, 1)


def _limit(limit: Any, none: float) -> float:
    return none if limit is None else float(limit)


def _slice(first: int, width: int) -> slice:
    return slice(first, first + width)
