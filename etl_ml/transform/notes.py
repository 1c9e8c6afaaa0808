"""What a person should know of the columns that a model is made of."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl

from etl_ml.transform.numeric import FLOAT32

if TYPE_CHECKING:
    from etl_ml.transform.preprocessor import Preprocessor

_MANY = 1_000
_COUNTED = 100


def column_notes(train: pl.DataFrame, preprocessor: Preprocessor) -> dict[str, Any]:
    """By column of the training rows: type, values, and what was made of the unusual ones.

    Returns
    -------
    dict by column with `type`, `features` (how many), `missing` and `distinct` values, `encode` of
    text, and `notes`
    """
    made = Counter(preprocessor.source_of())
    counted = train.select(
        pl.struct(
            missing=pl.col(name).null_count(), distinct=pl.col(name).drop_nulls().n_unique()
        ).alias(name)
        for name in preprocessor.columns
    ).row(0, named=True)
    found = {}
    for name, kind in preprocessor.columns.items():
        values, learned = counted[name], preprocessor.learned_.get(name, {})
        notes = _notes(train[name], values["distinct"], learned)
        found[name] = {"type": kind, "features": made[name], **values, "notes": notes}
        if "encode" in learned:
            found[name]["encode"] = learned["encode"]
    for name in sorted(set(made) - set(found)):
        found[name] = {
            "type": preprocessor.kinds_[name],
            "features": made[name],
            "notes": [f"made by {preprocessor.function}"],
        }
    return found


def _notes(values: pl.Series, distinct: int, learned: dict[str, Any]) -> list[str]:
    text, rows = "categories" in learned, len(values) - values.null_count()
    if not distinct:
        return ["no value in the training rows: " + ("no feature" if text else "filled with 0")]
    notes = []
    if distinct == 1:
        notes.append("one value only: nothing can be learned from it")
    if text and distinct == rows > 1:
        notes.append("every value is different: a name or a key, not a category")
    elif values.dtype.is_integer() and distinct == rows >= _COUNTED:
        notes.append("every value is different: perhaps a key, not a quantity")
    elif text and distinct > _MANY:
        notes.append(f"{distinct:,} categories")
    if values.dtype.is_float() and (beyond := int((values.abs() > FLOAT32).sum())):
        notes.append(f"{beyond:,} values beyond {FLOAT32:.2g}, clipped to it")
    return notes
