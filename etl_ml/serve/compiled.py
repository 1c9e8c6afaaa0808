"""Features of a few rows in plain Python: for one row, a dataframe's overhead is the whole cost.

What is here is checked and computed as `Checker` and `Learned` do, or not at all: a cell that is
not plainly right is left to them, and they say what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import SchemaValidator, ValidationError, core_schema

from etl_ml.spec.contract import MOMENTS, TEXTS, Column
from etl_ml.transform.learned import Learned, parts_of
from etl_ml.transform.numeric import FLOAT32

if TYPE_CHECKING:
    from etl_ml.serve.rows import Rows

Array = np.ndarray[Any, Any]
Cell = Callable[[Any, list[float]], None]
"""Appends the features of one cell."""

_LEAST, _MOST = -(2**63), 2**63 - 1
# What Unicode calls white space, which Polars trims; `str.strip()` trims four characters more.
_WHITE = "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
_WHITE += "\u2028\u2029\u202f\u205f\u3000"
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,17}(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,2})?")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{3}|\.[0-9]{6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_PART: dict[str, Callable[[Any], int]] = {
    "year": lambda moment: int(moment.year),
    "month": lambda moment: int(moment.month),
    "day": lambda moment: int(moment.day),
    "day_of_week": lambda moment: int(moment.isoweekday()),
    "hour": lambda moment: int(moment.hour),
}


class NotPlain(Exception):
    """A cell that is left to the columns."""


class Compiled:
    """What a preprocessor learned and what a contract asks, as one function a column.

    Parameters
    ----------
    inputs : the rules of each column, in the model's order
    null_values : texts that mean null
    learned : what features are made of; without a function of the user's and without neighbours

    Attributes
    ----------
    cells : of each column, what appends the features of one cell
    """

    def __init__(
        self, inputs: Mapping[str, Column], null_values: Collection[str], learned: Learned
    ) -> None:
        nulls = frozenset({"", *null_values})
        self.cells = {name: _cell(inputs[name], name, learned, nulls) for name in learned.kinds}
        self._texts = {name: _reader(inputs[name].type) for name in learned.kinds}

    @staticmethod
    def covers(inputs: Mapping[str, Column], learned: Learned) -> bool:
        """Whether the features of a model can be made here."""
        plain = learned.function is None and learned.neighbours is None
        return plain and learned.kinds.keys() == inputs.keys()

    def features(self, rows: Rows) -> Array | None:
        """Features of n rows: float32 array (n, k); None where a cell is not plainly right."""
        found: list[list[float]] = []
        names = [(rows.columns[name], cell) for name, cell in self.cells.items()]
        try:
            if rows.text:
                names = [
                    (list(map(self._texts[name], rows.columns[name])), cell)
                    for name, cell in self.cells.items()
                ]
            for place in range(rows.count):
                row: list[float] = []
                for cells, cell in names:
                    cell(cells[place], row)
                found.append(row)
        except NotPlain:
            return None
        return np.array(found, np.float64).astype(np.float32)


def _cell(column: Column, name: str, learned: Learned, nulls: frozenset[str]) -> Cell:
    kind, by_column = learned.kinds[name], learned.by_column[name]
    if kind in MOMENTS:
        return _moment(column, parts_of(kind, learned.datetime_parts), nulls)
    if kind in TEXTS:
        return _text(column, by_column, nulls)
    return _number(column, by_column)


def _number(column: Column, learned: Mapping[str, Any]) -> Cell:
    """Integers, floats and booleans: within limits, filled, scaled."""
    low, high, clips = learned["low"], learned["high"], learned["clip"]
    # A column is divided by multiplying it, and one bit decides on which side of a split it falls.
    center, factor, indicator = learned["center"], 1.0 / learned["scale"], learned["indicator"]
    keeps, nullable = _rules(column), column.nullable
    typed = {"integer": _integer, "boolean": _boolean}.get(column.type, _float)

    def features(value: float) -> float:
        scaled = (value - center) * factor
        return FLOAT32 if scaled > FLOAT32 else -FLOAT32 if scaled < -FLOAT32 else scaled

    missing = [features(learned["fill"]), *([1.0] if indicator else [])]

    def cell(given: Any, row: list[float]) -> None:
        value = None if given is None else typed(given)
        if value is None:
            if not nullable:
                raise NotPlain
            row += missing
            return
        if keeps is not None and not keeps(value):
            raise NotPlain
        number = float(value)
        number = FLOAT32 if number > FLOAT32 else -FLOAT32 if number < -FLOAT32 else number
        if low is not None and not low <= number <= high:
            if not clips:
                row += missing
                return
            number = low if number < low else high
        row.append(features(number))
        if indicator:
            row.append(0.0)

    return cell


def _text(column: Column, learned: Mapping[str, Any], nulls: frozenset[str]) -> Cell:
    """Categories: the features of each are known beforehand."""
    keeps, nullable = _rules(column), column.nullable
    by_level, unseen = _levels(learned)
    missing = unseen if learned["fill"] is None else by_level.get(learned["fill"], unseen)
    # Those that keep every rule, which most cells are.
    known: dict[str | None, list[float]] = {
        level: features
        for level, features in by_level.items()
        if level not in nulls and (keeps is None or keeps(level))
    }

    def cell(given: Any, row: list[float]) -> None:
        if given is not None and type(given) is not str:
            raise NotPlain
        features = known.get(given)
        if features is not None:
            row += features
            return
        value = given.strip(_WHITE) if given is not None else ""
        if value in nulls:
            if not nullable:
                raise NotPlain
            row += missing
            return
        if keeps is not None and not keeps(value):
            raise NotPlain
        row += by_level.get(value, unseen)

    return cell


def _levels(learned: Mapping[str, Any]) -> tuple[dict[str, list[float]], list[float]]:
    """Features of each category, and of one that training has not seen."""
    categories: Sequence[str] = learned["categories"]
    if learned["encode"] == "one_hot":
        size = len(categories)
        by_level = [[float(place == one) for one in range(size)] for place in range(size)]
        return dict(zip(categories, by_level, strict=True)), [0.0] * size
    if learned["encode"] == "target":
        if not categories:
            return {}, []
        encoded = [_within(list(each)) for each in zip(*learned["encodings"], strict=True)]
        return dict(zip(categories, encoded, strict=True)), _within(learned["prior"])
    return {level: [float(place)] for place, level in enumerate(categories)}, [-1.0]


def _within(values: Sequence[float]) -> list[float]:
    return [max(-FLOAT32, min(FLOAT32, value)) for value in values]


def _moment(column: Column, parts: Sequence[str], nulls: frozenset[str]) -> Cell:
    """Parts of dates in UTC."""
    keeps, nullable = _rules(column), column.nullable
    take = [_PART[part] for part in parts]
    missing = [-1.0] * len(parts)
    read = _day if column.type == "date" else _instant

    def cell(given: Any, row: list[float]) -> None:
        if given is None or (type(given) is str and given in nulls):
            if not nullable:
                raise NotPlain
            row += missing
            return
        value = read(given)
        if keeps is not None and not keeps(value):
            raise NotPlain
        row.extend([float(part(value)) for part in take])

    return cell


def _day(given: Any) -> date:
    if type(given) is not str or not _DAY.fullmatch(given):
        raise NotPlain
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise NotPlain from None


def _instant(given: Any) -> datetime:
    if type(given) is not str or not _MOMENT.fullmatch(given):
        raise NotPlain
    try:
        found = datetime.fromisoformat(given)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotPlain from None


def _integer(given: Any) -> int:
    if type(given) is float and given.is_integer():
        given = int(given)
    if type(given) is not int or not _LEAST <= given <= _MOST:
        raise NotPlain
    return given


def _float(given: Any) -> float:
    if type(given) is int and abs(given) <= 2**64:
        return float(given)
    if type(given) is not float or given - given != 0.0:  # infinite, or NaN
        raise NotPlain
    return given


def _boolean(given: Any) -> bool:
    if type(given) is bool:
        return given
    if type(given) is not int or given not in (0, 1):
        raise NotPlain
    return given == 1


def _reader(kind: str) -> Callable[[str], Any]:
    """From a cell of text to what JSON would have had there."""
    if kind in TEXTS or kind in MOMENTS:
        return lambda text: text
    if kind == "boolean":

        def read(text: str) -> Any:
            return None if not text else _truth(text)
    else:
        form = _WHOLE if kind == "integer" else _DECIMAL
        number = int if kind == "integer" else float

        def read(text: str) -> Any:
            if not text:
                return None
            if not form.fullmatch(text):
                raise NotPlain
            return number(text)

    return read


def _truth(text: str) -> bool:
    found = _TRUTH.get(text)
    if found is None:
        raise NotPlain
    return found


def _rules(column: Column) -> Callable[[Any], bool] | None:
    """Whether a value keeps the rules on values; None where there are none."""
    checks: list[Callable[[Any], bool]] = []
    least, most, longest = column.min, column.max, column.max_length
    if least is not None:
        checks.append(lambda value: bool(value >= least))
    if most is not None:
        checks.append(lambda value: bool(value <= most))
    if column.allowed is not None:
        allowed = frozenset(column.allowed)
        checks.append(lambda value: value in allowed)
    if column.pattern is not None:
        matches = SchemaValidator(
            core_schema.str_schema(pattern=column.pattern, regex_engine="rust-regex")
        )
        checks.append(lambda value: _matches(matches, value))
    if longest is not None:
        checks.append(lambda value: len(value) <= longest)
    if not checks:
        return None
    if len(checks) == 1:
        return checks[0]
    return lambda value: all(check(value) for check in checks)


def _matches(pattern: SchemaValidator, value: str) -> bool:
    try:
        pattern.validate_python(value)
    except ValidationError:
        return False
    return True
