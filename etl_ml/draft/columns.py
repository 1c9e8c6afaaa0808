"""What a column is: its type, whether it may be null, and whether a model should see it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from etl_ml.spec.contract import MOMENTS, NUMBERS, TEXTS, Column, ColumnType
from etl_ml.spec.source_section import NULL_VALUES
from etl_ml.validate.casting import cast, present

_NULLS = ("NULL", "null", "None", "none", "N/A", "n/a", "nan", "NaN", "#N/A", "-", "--", ".")
_KINDS: tuple[ColumnType, ...] = ("integer", "float", "boolean", "date", "datetime")
_FITS = 0.98
"""Share of a text column's values that must be of a type for the column to be of it."""
_IDENTIFIER = re.compile(r"(^|[_ .-])(id|uuid|guid|key|hash|index|idx|nr|no)$|^unnamed|^$", re.I)
_CAMEL = re.compile(r"[a-z](Id|ID|Key|No|Nr)$")
_PERSONAL = re.compile(
    r"e-?mail|phone|mobile|passport|ssn|social_security|iban|first_?name|last_?name|surname"
    r"|full_?name|birth|street|address|credit_?card|card_?number|password|token",
    re.I,
)
_EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
_LONG = 60
"""Characters on average from which text is prose and not a category."""


@dataclass(frozen=True)
class DraftColumn:
    """A column of the contract to be.

    Attributes
    ----------
    contract : its keys under `contract.columns`
    seen : what the sample shows of it, for a comment; without values where it is sensitive
    excluded : why a model should not see it; None for a feature
    left_out : why it cannot be in the contract; None where it can
    nulls : texts that mean null here, beyond those that always do
    broken : share of rows that break its rules
    distinct : different values, without null
    """

    name: str
    contract: dict[str, Any]
    seen: str
    excluded: str | None = None
    left_out: str | None = None
    nulls: tuple[str, ...] = ()
    broken: float = 0.0
    distinct: int = 0
    values: pl.Series = field(default_factory=pl.Series, repr=False)

    @property
    def kind(self) -> ColumnType:
        kind: ColumnType = self.contract["type"]
        return kind


def infer(values: pl.Series, *, target: bool = False) -> DraftColumn:
    """Look at the values of one column: a series (n,) as the source gave it."""
    name = values.name
    if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object, pl.Null, pl.Time):
        what = "has no value at all" if values.dtype == pl.Null else f"is a {values.dtype}"
        told = "it has no value" if values.dtype == pl.Null else "it is no single value"
        return DraftColumn(name, {"type": "string"}, what, left_out=told)
    kind, typed, nulls, broken = _typed(values, target)
    known = typed.drop_nulls()
    distinct, rows = known.n_unique(), len(values)
    texts = known if kind in TEXTS else None
    if texts is not None and not target:
        kind = "category" if distinct <= max(50, len(known) / 10) else "string"
    contract: dict[str, Any] = {"type": kind}
    missing = 1 - (len(known) + round(broken * rows)) / rows
    if missing <= 0:
        contract["nullable"] = False
    addresses = texts.str.contains(_EMAIL).sum() if texts is not None else 0
    personal = bool(_PERSONAL.search(name)) or addresses > len(known) / 2
    if personal and not target:
        contract["sensitive"] = True
    if kind in NUMBERS and len(known) and not personal:
        low = known.min()
        if set(known.unique()) == {0, 1}:
            contract["allowed"] = [0.0, 1.0] if kind == "float" else [0, 1]
        elif isinstance(low, int | float) and low >= 0 and distinct > 2:
            contract["min"] = 0
    seen = _seen(known, kind, distinct, missing, broken, hidden=personal and not target)
    excluded = None if target else _excluded(name, kind, known, distinct, rows)
    return DraftColumn(
        name, contract, seen, excluded, None, nulls, broken, distinct, typed.alias(name)
    )


def _typed(values: pl.Series, target: bool) -> tuple[ColumnType, pl.Series, tuple[str, ...], float]:
    """Type, values in it, texts that mean null, and the share of cells that are not of it."""
    frame = values.alias("v").to_frame()
    source = values.dtype
    if source != pl.String:
        kind = _of_type(source)
        content, _ = present(pl.col("v"), source, ())
        typed = frame.select(cast(content, source, Column(type=kind))).to_series()
        there = frame.select(content).to_series()
        lost = len(there.drop_nulls()) - len(typed.drop_nulls())
        return kind, typed, (), lost / len(values)
    always, _ = present(pl.col("v"), source, NULL_VALUES)
    text = frame.select(always).to_series().alias("v")
    also, _ = present(pl.col("v"), source, (*NULL_VALUES, *_NULLS))
    bare = text.to_frame().select(also).to_series().alias("v")
    known = bare.drop_nulls()
    used = tuple(sorted(set(text.drop_nulls()) & set(_NULLS)))
    if not len(known):
        return "string", bare, used, 0.0
    for kind in _KINDS:
        if (kind == "boolean" and target) or (kind in NUMBERS and _has_leading_zero(known)):
            continue
        as_kind = cast(pl.col("v"), pl.String(), Column(type=kind))
        typed = bare.to_frame().select(as_kind).to_series()
        fits = len(typed.drop_nulls()) / len(known)
        if fits == 1 or (fits >= _FITS and kind in NUMBERS):
            return kind, typed, used, (1 - fits) * len(known) / len(values)
    return ("category" if target else "string"), text, (), 0.0


def _of_type(source: pl.DataType) -> ColumnType:
    if source.is_integer():
        return "integer"
    if source.is_float() or source.is_decimal():
        return "float"
    if source == pl.Boolean:
        return "boolean"
    if source == pl.Date:
        return "date"
    return "datetime" if source == pl.Datetime else "string"


def _has_leading_zero(known: pl.Series) -> bool:
    """Whether a number would forget how it was written: 01067 is no quantity."""
    return bool(known.str.contains(r"^[+-]?0\d").any())


def _excluded(
    name: str, kind: ColumnType, known: pl.Series, distinct: int, rows: int
) -> str | None:
    if distinct == 0:
        return "it has no value"
    if distinct == 1:
        return "it has one value only"
    named = bool(_IDENTIFIER.search(name) or _CAMEL.search(name))
    different = distinct >= 0.98 * len(known)
    if named and distinct > 0.5 * rows and kind != "float":
        return "it identifies a row"
    if kind in TEXTS and len(known) >= 30:
        if _length(known) > _LONG:
            return "it is prose; features.function can make numbers of it"
        if different:
            return "every row has another value"
    counted = kind == "integer" and different and len(known) >= 100
    if counted and (int(known.max()) - int(known.min())) < 1.05 * len(known):  # type: ignore[arg-type]
        return "it numbers the rows"
    return None


def _length(known: pl.Series) -> float:
    mean = known.str.len_chars().mean()
    return float(mean) if isinstance(mean, int | float) else 0.0


def _seen(
    known: pl.Series,
    kind: ColumnType,
    distinct: int,
    missing: float,
    broken: float,
    *,
    hidden: bool,
) -> str:
    parts = []
    if hidden:
        parts.append("perhaps personal")
    elif len(known) and kind in NUMBERS + MOMENTS:
        parts.append(f"{_shown(known.min())} to {_shown(known.max())}")
    elif len(known) and distinct <= 6:
        counts = known.value_counts(sort=True)
        levels = (f"{_shown(v)} {n / len(known):.0%}" for v, n in counts.iter_rows())
        parts.append(", ".join(levels))
    if distinct > 6 or hidden:
        parts.append(f"{distinct:,} different")
    if missing > 0:
        parts.append(f"{_percent(missing)} null")
    if broken > 0:
        parts.append(f"{_percent(broken)} not of this type: set aside")
    return ", ".join(parts)


def _shown(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())  # a comment ends with its line
    return text if len(text) <= 24 else f"{text[:23]}…"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


def null_values(columns: Collection[DraftColumn]) -> list[str]:
    """Texts that mean null in some column, beyond those that always do."""
    return sorted({text for column in columns for text in column.nulls})
