"""What is predicted: classes or a number, and which class is the positive one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from etl_ml.draft.columns import DraftColumn
from etl_ml.spec.contract import MOMENTS, TEXTS

_CLASSES = 20
"""Different numbers up to which a target is taken for classes."""
_MOST = 100
_POSITIVE = (
    *("1", "true", "yes", "y", "t", "positive", "pos", "malignant", "fraud", "bad", "default"),
    *("churn", "churned", "spam", "failure", "failed", "anomaly", "phishing", "attack", ">50k"),
)


@dataclass(frozen=True)
class DraftTarget:
    """What stands under `target:`, and what the contract says of its column.

    Attributes
    ----------
    task : classification or regression
    positive : of two labels that are not 0 and 1
    why : for comments
    rare : labels that have too few rows to be learned, with their rows
    problem : what a person has to decide before anything can be learned; None where nothing
    """

    task: str
    contract: dict[str, Any]
    positive: Any = None
    why: str = ""
    rare: dict[Any, int] | None = None
    problem: str | None = None


def infer_target(column: DraftColumn, folds: int) -> DraftTarget:
    """Decide the task from the values of the target's column."""
    known = column.values.drop_nulls()
    contract = {**column.contract, "nullable": False}
    contract.pop("min", None)
    if column.kind in MOMENTS:
        return DraftTarget(
            "classification",
            contract,
            problem=f"{column.name} is a {column.kind}; a model predicts classes or a number",
        )
    sizes = dict(known.value_counts(sort=True).iter_rows())
    number = column.kind not in TEXTS and column.kind != "boolean"
    if number and not _looks_like_classes(known, sizes, folds):
        if len(sizes) < 2:
            return DraftTarget("regression", contract, problem=_one_value(column))
        return DraftTarget("regression", contract, why=f"{len(sizes):,} different numbers")
    if len(sizes) < 2:
        return DraftTarget("classification", contract, problem=_one_value(column))
    rare = {label: rows for label, rows in sizes.items() if rows <= 2 * folds}
    often = sorted((label for label in sizes if label not in rare), key=_order)
    if len(often) < 2 or len(often) > _MOST:
        told = f"{len(sizes):,} different values, {len(often):,} of them with {2 * folds + 1} rows"
        return DraftTarget(
            "classification", contract, problem=f"{column.name} has {told}: too many for classes"
        )
    contract["allowed"] = often
    why = ", ".join(f"{label}: {sizes[label]:,} rows" for label in often[:6])
    positive = None
    if len(often) == 2 and set(often) != {0, 1}:
        positive = next(
            (label for label in often if str(label).strip().lower() in _POSITIVE),
            min(often, key=lambda label: sizes[label]),
        )
    return DraftTarget("classification", contract, positive, why, rare or None)


def _looks_like_classes(known: pl.Series, sizes: dict[Any, int], folds: int) -> bool:
    """Few different whole numbers, most of them with rows enough."""
    if len(sizes) > _CLASSES or len(sizes) * 2 > len(known):
        return False
    whole = bool((known.cast(pl.Float64) == known.cast(pl.Float64).round()).all())
    enough = sum(rows for rows in sizes.values() if rows > 2 * folds)
    return whole and enough >= 0.95 * len(known)


def _order(label: Any) -> tuple[str, Any]:
    return ("" if isinstance(label, bool | int | float) else "t", label)


def _one_value(column: DraftColumn) -> str:
    return f"{column.name} has one value only; there is nothing to learn"
