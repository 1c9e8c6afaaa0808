"""A frame's columns by name, in the types that a model was trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import polars as pl

from etl_ml.spec.contract import Column
from etl_ml.spec.error import EtlMlError, bounded, listed, nearest
from etl_ml.validate.casting import cast, polars_type, present

if TYPE_CHECKING:
    import pandas as pd

    Frame = pl.DataFrame | pd.DataFrame


class UnusableFrame(EtlMlError):
    """A frame that lacks a feature column, or holds what its type cannot."""


def typed_frame(
    X: Frame, columns: Mapping[str, str], sensitive: Collection[str] = (), origin: str = "the frame"
) -> pl.DataFrame:
    """The columns, in order, each in its contracted type; casts are exact.

    Parameters
    ----------
    X : pandas or Polars frame, or Arrow table; its other columns and their order do not matter
    columns : contracted type by name
    sensitive : columns whose values are in no message
    origin : what messages call the frame

    Raises
    ------
    UnusableFrame
        A column is missing, or holds what its contracted type cannot.
    """
    X = _frame(X, origin)
    names = list(X.columns)
    missing = [name for name in columns if name not in names]
    if missing:
        close = nearest(missing[0], names)
        raise UnusableFrame(
            f"{origin} has no column {listed(map(repr, missing))}.",
            seen=f"its columns are {listed(names)}",
            close=repr(close) if close else None,
            fix="give the columns that the model was trained on, by name",
        )
    frame = _native(X, columns, origin)
    exact: list[pl.Expr] = []
    for name, kind in columns.items():
        source, target = frame.schema[name], polars_type(kind)  # type: ignore[arg-type]
        if source == target and not (source.is_float() or source == pl.String):
            continue
        if source.is_nested() or source in (pl.Binary, pl.Object):
            if frame[name].null_count() < len(frame):
                _refuse(name, kind, f"its type is {source}")
            exact.append(pl.lit(None, target).alias(name))
            continue
        value, _ = present(pl.col(name), source, ())
        column = Column(type=kind)  # type: ignore[arg-type]
        exact.append(cast(value, source, column).cast(target).alias(name))
    typed = frame.with_columns(exact)
    for name, kind in columns.items():
        if typed[name].null_count() > frame[name].null_count():
            lost = frame[name].filter(_present(frame[name]) & typed[name].is_null())
            if len(lost):
                _refuse(name, kind, None if name in sensitive else bounded(lost[0]))
    return typed


def _frame(X: Any, origin: str) -> Frame:
    """What has named columns; an Arrow table as Polars has it."""
    if isinstance(X, pl.DataFrame):
        return X
    kind = type(X)
    if kind.__module__.partition(".")[0] == "pyarrow" and hasattr(X, "column_names"):
        return pl.DataFrame(X)
    if isinstance(X, pl.LazyFrame) or not (hasattr(X, "columns") and hasattr(X, "dtypes")):
        raise UnusableFrame(
            f"{origin} is a {kind.__module__.partition('.')[0]}.{kind.__name__}.",
            fix="give a pandas or Polars frame, or an Arrow table, with the columns by name",
        )
    frame: Frame = X
    return frame


def _refuse(name: str, kind: str, seen: str | None) -> NoReturn:
    raise UnusableFrame(
        f"column {name!r} holds a value that is not of type {kind}.",
        seen=seen,
        fix=f"give {name} as {kind}, or null",
    )


def _native(X: Frame, columns: Mapping[str, str], origin: str) -> pl.DataFrame:
    """The wanted columns as Polars has them; categories are text, as they were given."""
    frame = None
    if isinstance(X, pl.DataFrame):
        frame = X.select(list(columns))
    else:
        with suppress(TypeError, ValueError, NotImplementedError):
            frame = pl.from_pandas(X[list(columns)])
    if frame is None:  # one by one, to find the column that does not convert
        series = [_from_pandas(X, name, kind, origin) for name, kind in columns.items()]
        frame = pl.DataFrame(series)
    categories = [n for n, kind in frame.schema.items() if kind in (pl.Categorical, pl.Enum)]
    return frame.with_columns(pl.col(categories).cast(pl.String)) if categories else frame


def _from_pandas(X: Any, name: str, kind: str, origin: str) -> pl.Series:
    if list(X.columns).count(name) > 1:
        raise UnusableFrame(f"{origin} has two columns {name!r}.", fix="rename one of them")
    # Arrow's own message shows a value, which may be sensitive.
    with suppress(TypeError, ValueError, NotImplementedError):
        return pl.Series(name, pl.from_pandas(X[name]))
    _refuse(name, kind, "its values are of several types")


def _present(values: pl.Series) -> pl.Series:
    """Which cells hold a value."""
    _, there = present(pl.col(values.name), values.dtype, ())
    return values.to_frame().select(there).to_series()
