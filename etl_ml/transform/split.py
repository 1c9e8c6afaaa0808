"""Which rows train and which test: by what a row is, so that it is the same tomorrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import hash_rows
from etl_ml.spec.error import EtlMlError, listed
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

_LEAST_UNITS = 30


class SplitError(EtlMlError):
    """The rows cannot be split as asked."""


@dataclass(frozen=True)
class Sides:
    """The sides of n rows.

    Attributes
    ----------
    test : bool array (n,)
    units : int64 array (n,); rows with one number are on one side, in one fold, drawn together
    columns : the columns that were hashed
    unit : `features`, `primary_key` or `row`
    """

    test: np.ndarray[Any, Any]
    units: np.ndarray[Any, Any]
    columns: tuple[str, ...]
    unit: str


def split(
    rows: pl.DataFrame, pipeline: Pipeline, previous: Mapping[str, Any] | None = None
) -> Sides:
    """Put each unit of rows on the side that its hash says: test if hash(seed, unit) < test_size.

    Parameters
    ----------
    rows : frame of n clean rows
    previous : the last run's `split.json`; its columns are hashed again as long as they exist, so
        that a new column does not move old rows

    Raises
    ------
    SplitError
        Fewer than 30 units on a side, a test share that is off by half, or a class that one side
        lacks.
    """
    import numpy as np

    unit, columns = unit_columns(pipeline)
    if previous and previous.get("unit") == unit and set(previous["columns"]) <= set(columns):
        columns = tuple(previous["columns"])
    hashes = hash_rows(rows.select(columns).to_arrow(), columns, str(pipeline.split.seed).encode())
    share = hashes.view(">u8")[::2].astype(np.float64) / 2.0**64
    test = share < pipeline.split.test_size
    _, units = np.unique(hashes, return_inverse=True)
    sides = Sides(test, units.astype(np.int64), columns, unit)
    _fair(sides, rows[pipeline.target.column], pipeline)
    return sides


def unit_columns(pipeline: Pipeline) -> tuple[str, tuple[str, ...]]:
    """What is hashed to find a row's side, and what it is called."""
    features = tuple(pipeline.features_of())
    if pipeline.split.keep_duplicates_together:
        return "features", features
    key = pipeline.contract.primary_key
    if key and not set(key) & set(pipeline.cleaning.drop_columns):
        return "primary_key", key
    return "row", features


def _fair(sides: Sides, target: pl.Series, pipeline: Pipeline) -> None:
    import numpy as np

    wanted, share = pipeline.split.test_size, float(sides.test.mean())
    counts = {
        "train": len(np.unique(sides.units[~sides.test])),
        "test": len(np.unique(sides.units[sides.test])),
    }
    seen = (
        f"{len(sides.test)} rows, {counts['train']} different ones train, {counts['test']} test; "
        f"test share {share:.1%} of rows"
    )
    fix = "give it more rows, or another split.test_size or split.seed" + (
        "; where equal rows are different cases, name contract.primary_key and set "
        "split.keep_duplicates_together: false"
        if sides.unit == "features"
        else ""
    )
    if min(counts.values()) < _LEAST_UNITS:
        raise SplitError(
            f"{pipeline.name}: a side of the split has fewer than {_LEAST_UNITS} different rows.",
            seen=seen,
            where="split",
            fix=fix,
        )
    if not 0.5 * wanted <= share <= 1.5 * wanted:
        repeated = sum(counts.values()) < len(sides.test)
        cause = (
            "some rows are repeated so often that they decide it" if repeated else "rows are few"
        )
        raise SplitError(
            f"{pipeline.name}: the split is far from split.test_size {wanted:g}: {cause}.",
            seen=seen,
            where="split",
            fix=fix,
        )
    classes = set(target.unique())
    for side, rows in (("train", ~sides.test), ("test", sides.test)):
        if lacking := classes - set(target.filter(rows).unique()):
            raise SplitError(
                f"{pipeline.name}: no {side} row is of class {listed(sorted(map(repr, lacking)))}.",
                seen=seen,
                where="split",
                fix=fix,
            )


def leaks(
    train: Sequence[Any] | np.ndarray[Any, Any], test: Sequence[Any] | np.ndarray[Any, Any]
) -> int:
    """How many different values stand on both sides."""
    import numpy as np

    return len(np.intersect1d(train, test))
