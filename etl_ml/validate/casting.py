"""Casting to the contract's types: exact, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from etl_ml.spec.contract import TEXTS, Column, ColumnType

if TYPE_CHECKING:
    import polars as pl

# Up to here every integer is a float64 and back.
_EXACT = 2**53
_FEW_DIGITS = r"^[+-]?\.?(\d\.?){1,15}[eE][+-]?\d{1,2}$"
_LEAP = r":\d{2}:60"  # no second of UTC days in microseconds; it would become the next one
_DAY = r"^\d{4}-\d{2}-\d{2}([Tt ]|$)"
_TRUE, _FALSE = ("true", "t", "yes", "1"), ("false", "f", "no", "0")
_DATETIMES = ("%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M%:z")
_LOCAL = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def polars_type(kind: ColumnType) -> pl.DataType:
    """What a contracted type is stored as; datetimes are in microseconds, UTC."""
    import polars as pl

    types: dict[ColumnType, pl.DataType] = {
        "integer": pl.Int64(),
        "float": pl.Float64(),
        "boolean": pl.Boolean(),
        "string": pl.String(),
        "category": pl.String(),
        "datetime": pl.Datetime("us", "UTC"),
        "date": pl.Date(),
    }
    return types[kind]


def present(
    column: pl.Expr, source: pl.DataType, null_values: Iterable[str]
) -> tuple[pl.Expr, pl.Expr]:
    """A cell's content without what means null, and whether there is any.

    Text is trimmed, the empty text is null, and so is a float's NaN.
    """
    import polars as pl

    if source == pl.String:
        text = column.str.strip_chars()
        text = pl.when(text.is_in(list({"", *null_values}))).then(None).otherwise(text)
        return text, text.is_not_null()
    if source.is_float():
        column = column.fill_nan(None)
    return column, column.is_not_null()


def always_casts(source: pl.DataType, column: Column) -> bool:
    """Whether every value of a source's type is one of the contracted type."""
    import polars as pl

    target = polars_type(column.type)
    if target == pl.Int64:
        return source.is_integer() and source not in (pl.UInt64, pl.Int128, pl.UInt128)
    return source == target and not source.is_float()


def cast(value: pl.Expr, source: pl.DataType, column: Column) -> pl.Expr:
    """The value in its contracted type, null where that type cannot hold it exactly."""
    import polars as pl

    target = polars_type(column.type)
    if always_casts(source, column):
        return value.cast(target)
    if source == target == pl.Float64:
        return pl.when(value.is_finite()).then(value)
    if source == pl.String:
        return _from_text(value, column.type)
    if source.is_nested() or source == pl.Binary:
        return pl.lit(None, target)
    if target == pl.Datetime("us", "UTC"):
        if isinstance(source, pl.Datetime):
            zoned = value.dt.convert_time_zone("UTC") if source.time_zone else value
            return zoned.dt.replace_time_zone("UTC").dt.cast_time_unit("us")
        if source == pl.Date:
            return value.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return pl.lit(None, target)
    if isinstance(source, pl.Datetime) and target == pl.Date:
        day = value.dt.date()
        return pl.when(day.cast(source) == value).then(day)
    if target == pl.String:
        return value.cast(pl.String, strict=False)
    if source.is_temporal() or target.is_temporal():
        return pl.lit(None, target)
    if target == pl.Boolean:
        return (
            pl.when(value.cast(pl.Float64) == 0)
            .then(False)
            .when(value.cast(pl.Float64) == 1)
            .then(True)
        )
    converted = value.cast(target, strict=False)
    exact = converted.cast(source, strict=False) == value
    if target == pl.Float64:
        exact = exact & converted.is_finite()
    return pl.when(exact).then(converted)


def _from_text(text: pl.Expr, kind: ColumnType) -> pl.Expr:
    import polars as pl

    if kind in TEXTS:
        return text
    number = text.cast(pl.Float64, strict=False)
    if kind == "float":
        # The text "NaN" is no number; source.null_values can say that it means null.
        return pl.when(number.is_finite()).then(number)
    if kind == "integer":
        # 1.0 and 1e3 are integers, as other tools write them. A float tells decimals of up to 15
        # digits apart, so that among these what looks whole is whole.
        exact = text.str.contains(_FEW_DIGITS) & (number.abs() <= _EXACT)
        return pl.coalesce(
            text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False),
            pl.when(exact & (number.round() == number)).then(number.cast(pl.Int64, strict=False)),
        )
    if kind == "boolean":
        lower = text.str.to_lowercase()
        return pl.when(lower.is_in(_TRUE)).then(True).when(lower.is_in(_FALSE)).then(False)
    moment = _moment(text)
    if kind == "datetime":
        return moment
    day = moment.dt.date()
    return pl.when(day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC") == moment).then(day)


def _moment(text: pl.Expr) -> pl.Expr:
    """ISO 8601: a date, or a date and time; without an offset the time is UTC."""
    import polars as pl

    text = pl.when(text.str.contains(_DAY) & ~text.str.contains(_LEAP)).then(text)
    plain = text.str.replace(r"^(\d{4}-\d{2}-\d{2})[Tt]", "${1} ").str.replace("[Zz]$", "+00:00")
    zoned = [
        plain.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
        for form in _DATETIMES
    ]
    local = [
        plain.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC")
        for form in _LOCAL
    ]
    return pl.coalesce(*zoned, *local)
