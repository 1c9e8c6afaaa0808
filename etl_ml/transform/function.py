"""The user's own feature function: found, called, and held to what it promises."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

import polars as pl

from etl_ml.spec.error import EtlMlError, bounded, listed
from etl_ml.transform.named import find_named

if TYPE_CHECKING:
    import pandas as pd

    Function = Callable[[pd.DataFrame], pd.DataFrame]

_SEED = 42
_FEW, _MANY, _ALONE = 20, 200, 10


class FeatureFunctionError(EtlMlError):
    """A feature function that cannot be found, fails, or does not work row by row."""


def find_function(name: str) -> Function:
    """Import `module:function`.

    Raises
    ------
    FeatureFunctionError
        There is no such module, or nothing to call in it.
    """
    found: Function = find_named(
        name,
        what=f"features.function {name!r}",
        key="features.function",
        kind="function",
        error=FeatureFunctionError,
    )
    return found


def call_function(
    name: str, frame: pl.DataFrame, *, check: bool = False, sensitive: bool = False
) -> pl.DataFrame:
    """Ask the function for the features of n rows.

    Parameters
    ----------
    check : ask it again for parts of the rows, in other orders and alone, which must come out the
        same
    sensitive : whether what it says when it fails may hold values that are shown nowhere

    Raises
    ------
    FeatureFunctionError
        It fails, returns something else than a frame of the same n rows in the same order, or
        makes a row's values depend on other rows.
    """
    function = find_function(name)
    found = _called(function, name, frame, sensitive)
    for places in _asked_again(frame) if check else ():
        few = _called(function, name, frame[places], sensitive)
        whole = found[places]
        moved = [c for c in whole.columns if c not in few.columns or not _same(whole[c], few[c])]
        if moved:
            raise FeatureFunctionError(
                f"features.function {name!r} does not work row by row: column {moved[0]!r} of a "
                "row changes with the other rows that are there, or with their order.",
                where="features.function",
                fix="make each row's features of that row alone; what is learned from many rows "
                "belongs into an estimator",
            )
    return found


def _asked_again(frame: pl.DataFrame) -> Iterator[list[int]]:
    """Rows that are asked about once more: few of them, in another order, with nulls, and alone.

    What looks at its neighbours, at the row's number or at all rows says something else then.
    """
    draw = random.Random(_SEED)
    count = len(frame)
    places = list(range(count))
    if not count:
        return
    yield places[:_FEW]
    yield draw.sample(places, min(_MANY, count))
    yield list(reversed(places[-_MANY:]))
    holes = frame.select(pl.any_horizontal(pl.all().is_null()).arg_true()).to_series().to_list()
    if holes:
        # A median of the rows that are there is another one among those that lack a value.
        yield draw.sample(holes, min(_FEW, len(holes)))
        yield from ([place] for place in holes[:_ALONE])
    yield from ([place] for place in draw.sample(places, min(_ALONE, count)))


def _called(function: Function, name: str, frame: pl.DataFrame, sensitive: bool) -> pl.DataFrame:
    import pandas as pd

    given = frame.to_pandas()
    try:
        found = function(given.copy())
    except Exception as error:
        # The function is the user's, and may raise anything.
        missing = isinstance(error, KeyError | AttributeError)
        said = error.args[0] if isinstance(error, KeyError) and error.args else error
        told = "" if sensitive and not missing else f": {bounded(str(said), 200)}"
        raise FeatureFunctionError(
            f"features.function {name!r} failed: {type(error).__name__}{told}."
            + (" The target is no feature, and is not there." if missing else ""),
            seen=f"it was given the columns {listed(frame.columns)}",
            where="features.function",
            fix="correct the function",
        ) from (None if sensitive else error)
    if not isinstance(found, pd.DataFrame):
        _broken(name, f"returned {type(found).__name__}, not a pandas frame")
    if len(found) != len(given):
        _broken(name, f"returned {len(found)} rows for {len(given)}")
    if not found.index.equals(given.index):
        _broken(name, "returned the rows in another order, or with another index")
    if not len(found.columns):
        _broken(name, "returned no column", "return the columns that the model learns from")
    if not found.columns.is_unique:
        twice = found.columns[found.columns.duplicated()][0]
        _broken(name, f"returned two columns {twice!r}", "rename one of them")
    try:
        made = pl.from_pandas(found.rename(columns=str))
    except (TypeError, ValueError, NotImplementedError):
        mixed = [str(c) for c in found.columns if found[c].dtype == object]
        told = f"returned values of several types in one of the columns {listed(mixed)}"
        _broken(name, told, "return numbers, text, dates or booleans, of one type a column")
    for column in made.select(pl.selectors.float()):
        if column.is_infinite().any():
            told = f"returned infinite values in column {column.name!r}"
            _broken(name, told, "return NaN where there is no number, as after a division by 0")
    return made


def _broken(
    name: str,
    how: str,
    fix: str = "return a frame with a row for each row that was given, in the same order",
) -> NoReturn:
    raise FeatureFunctionError(
        f"features.function {name!r} {how}.", where="features.function", fix=fix
    )


def _same(one: pl.Series, other: pl.Series) -> bool:
    if one.dtype.is_numeric() and other.dtype.is_numeric():
        first, second = one.cast(pl.Float64), other.cast(pl.Float64)
        close = (first - second).abs() <= 1e-9 * (1 + first.abs())
        alike = close | (first.eq_missing(second)) | (first.is_nan() & second.is_nan())
        return bool(alike.fill_null(False).all())
    if one.dtype != other.dtype:  # nothing but nulls among the few
        return one.null_count() == len(one) or other.null_count() == len(other)
    return bool(one.eq_missing(other).all())


def kind_of(dtype: pl.DataType) -> str | None:
    """The contracted type that fits a column which the function made; None if none does."""
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_numeric():
        return "float"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "string"
    if dtype == pl.Date:
        return "date"
    return "datetime" if dtype == pl.Datetime else None
