"""Which rows train and which test, decided before anything is fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import ROW, hash_rows
from etl_ml.spec.error import EtlMlError, listed
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

_LEAST_UNITS, _LEAST_GROUPS = 30, 5
_TENTHS = 10


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
    unit : `features`, `primary_key`, `row` or `group`
    left_out : bool array (n,), rows on neither side; None where there are none
    order : int64 array (n,), the rank of each row's time, ties alike; None but for `time`
    boundary : the first time that tests; None but for `time`
    """

    test: Array
    units: Array
    columns: tuple[str, ...]
    unit: str
    left_out: Array | None = None
    order: Array | None = None
    boundary: Any = None

    @property
    def train(self) -> Array:
        """Bool array (n,)."""
        train: Array = ~self.test if self.left_out is None else ~self.test & ~self.left_out
        return train


def split(
    rows: pl.DataFrame, pipeline: Pipeline, previous: Mapping[str, Any] | None = None
) -> Sides:
    """Put each row on the side that `split.strategy` says.

    hash: a unit tests if hash(seed, unit) < test_size, so that it is there tomorrow, too.
    stratified: of each class (of a number, each tenth) the units with the smallest hashes test.
    time: a row tests from the time on that leaves at least 1 - test_size of the rows before it;
    rows of one time are on one side, and all that train are before all that test. A later row
    whose features are those of a training row is on neither side with `keep_duplicates_together`.
    group: groups are shuffled, and the first ones test, up to the share of rows that is nearest to
    test_size; groups that share a feature row go together with `keep_duplicates_together`.

    Parameters
    ----------
    rows : frame of n clean rows
    previous : the last run's `split.json`; for `hash` its columns are hashed again as long as they
        exist, so that a new column does not move old rows

    Raises
    ------
    SplitError
        Fewer than 30 units (5 groups) on a side, a test share that is off by half, or a class that
        one side lacks.
    """
    strategy = pipeline.split.strategy
    if strategy == "time":
        sides = _by_time(rows, pipeline)
    elif strategy == "group":
        sides = _by_group(rows, pipeline)
    elif strategy == "stratified":
        sides = _stratified(rows, pipeline)
    else:
        sides = _by_hash(rows, pipeline, previous)
    _fair(sides, rows[pipeline.target.column], pipeline)
    return sides


def unit_columns(pipeline: Pipeline) -> tuple[str, tuple[str, ...]]:
    """What is hashed to find the rows that belong together, and what it is called."""
    features = tuple(pipeline.features_of())
    if pipeline.split.keep_duplicates_together:
        return "features", features
    key = pipeline.contract.primary_key
    if key and not set(key) & set(pipeline.cleaning.drop_columns):
        return "primary_key", key
    return "row", features if pipeline.split.strategy == "hash" else (ROW,)


def _by_hash(rows: pl.DataFrame, pipeline: Pipeline, previous: Mapping[str, Any] | None) -> Sides:
    unit, columns = unit_columns(pipeline)
    same = previous and (previous.get("strategy", "hash"), previous["unit"]) == ("hash", unit)
    if previous and same and set(previous["columns"]) <= set(columns):
        columns = tuple(previous["columns"])
    hashes = _hashes(rows, columns, pipeline)
    return Sides(_share(hashes) < pipeline.split.test_size, _numbers(hashes), columns, unit)


def _stratified(rows: pl.DataFrame, pipeline: Pipeline) -> Sides:
    """Of the units of each class, by majority of their rows, the same share tests."""
    import numpy as np
    import polars as pl

    unit, columns = unit_columns(pipeline)
    hashes = _hashes(rows, columns, pipeline)
    units, share = _numbers(hashes), _share(hashes)
    target = rows[pipeline.target.column]
    if pipeline.target.task == "regression":
        target = (target.rank("ordinal") * _TENTHS // (len(target) + 1)).cast(pl.Int64)
    table = pl.DataFrame({"unit": units, "share": share, "label": target})
    label = pl.col("label")
    # The most frequent label; of several, the first, so that equal rows give equal sides.
    of_unit = table.group_by("unit").agg(label.mode().min(), pl.col("share").first())
    rank = pl.col("share").rank("ordinal").over("label")
    wanted = (pl.len().over("label") * pipeline.split.test_size).round()
    tested = of_unit.sort("unit").select((rank <= wanted).alias("test"))["test"].to_numpy()
    return Sides(np.asarray(tested)[units], units, columns, unit)


def _by_time(rows: pl.DataFrame, pipeline: Pipeline) -> Sides:
    import numpy as np

    unit, columns = unit_columns(pipeline)
    times = rows[pipeline.split.column or ""]
    ordered = times.sort()
    first = int(np.ceil(len(rows) * (1 - pipeline.split.test_size)))
    boundary = ordered[min(first, len(rows) - 1)] if len(rows) else None
    later = (times >= boundary).to_numpy()
    units = _numbers(_hashes(rows, columns, pipeline))
    repeated = None
    if pipeline.split.keep_duplicates_together:
        repeated = later & np.isin(units, units[~later])
    test = later if repeated is None else later & ~repeated
    order = times.rank("dense").cast(int).to_numpy()
    return Sides(test, units, columns, unit, repeated, order, boundary)


def _by_group(rows: pl.DataFrame, pipeline: Pipeline) -> Sides:
    import numpy as np

    column = pipeline.split.column or ""
    units = _numbers(_hashes(rows, (column,), pipeline))
    if pipeline.split.keep_duplicates_together:
        features = _numbers(_hashes(rows, tuple(pipeline.features_of()), pipeline))
        units = _connected(units, features)
    sizes = np.bincount(units)
    shuffled = np.random.default_rng(pipeline.split.seed).permutation(len(sizes))
    taken = np.cumsum(sizes[shuffled])
    nearest = int(np.abs(taken - pipeline.split.test_size * len(rows)).argmin())
    return Sides(np.isin(units, shuffled[: nearest + 1]), units, (column,), "group")


def _connected(groups: Array, features: Array) -> Array:
    """The number of the connected component of each row: groups linked by equal feature rows."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(groups.max(initial=-1)) + 1
    size = count + int(features.max(initial=-1)) + 1
    links = coo_array((np.ones(len(groups), np.int8), (groups, count + features)), (size, size))
    _, member = connected_components(links, directed=False)
    return _numbers(member[groups])


def _hashes(rows: pl.DataFrame, columns: Sequence[str], pipeline: Pipeline) -> Array:
    return hash_rows(rows.select(columns).to_arrow(), columns, str(pipeline.split.seed).encode())


def _share(hashes: Array) -> Array:
    """Hashes as numbers from 0 to 1."""
    import numpy as np

    share: Array = hashes.view(">u8")[::2].astype(np.float64) / 2.0**64
    return share


def _numbers(values: Array) -> Array:
    """Equal values as equal numbers from 0 on."""
    import numpy as np

    _, numbers = np.unique(values, return_inverse=True)
    return numbers.astype(np.int64)


def _fair(sides: Sides, target: pl.Series, pipeline: Pipeline) -> None:
    import numpy as np

    wanted, share = pipeline.split.test_size, float(sides.test.mean())
    counts = {
        "train": len(np.unique(sides.units[sides.train])),
        "test": len(np.unique(sides.units[sides.test])),
    }
    kind, least = ("group", _LEAST_GROUPS) if sides.unit == "group" else ("row", _LEAST_UNITS)
    named = f"{'different ' if kind == 'row' else ''}{kind}s"
    trained = "1 " + named[:-1] if counts["train"] == 1 else f"{counts['train']} {named}"
    seen = (
        f"{len(sides.test)} rows, {trained} train, {counts['test']} test; "
        f"test share {share:.1%} of rows"
    )
    _varies(sides, pipeline, sum(counts.values()))
    if sides.left_out is not None and sides.left_out.any():
        seen += f"; {int(sides.left_out.sum())} later rows repeat training rows and are left out"
    if min(counts.values()) < least:
        raise SplitError(
            f"{pipeline.name}: a side of the split has fewer than {least} {named}.",
            seen=seen,
            where="split",
            fix=_room(pipeline, sum(counts.values()), least, named) + _apart(sides, pipeline),
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
            fix=_advice(sides, pipeline),
        )
    if pipeline.target.task == "regression":
        return
    classes = set(target.unique())
    for side, rows in (("train", sides.train), ("test", sides.test)):
        if lacking := classes - set(target.filter(rows).unique()):
            raise SplitError(
                f"{pipeline.name}: no {side} row is of class {listed(sorted(map(repr, lacking)))}.",
                seen=seen,
                where="split",
                fix=_advice(sides, pipeline),
            )


def _varies(sides: Sides, pipeline: Pipeline, units: int) -> None:
    """Where all is alike there are no sides, however many rows there are."""
    rows, column = len(sides.test), pipeline.split.column
    if sides.order is not None and len(sides.order) and sides.order.min() == sides.order.max():
        raise SplitError(
            f"{pipeline.name}: {column} is the same in all {rows} rows, so that none is later.",
            seen=f"{column} {sides.boundary}",
            where="split.column",
            fix="name a column whose times differ, or set split.strategy: hash",
        )
    if sides.unit == "features" and units == 1:
        raise SplitError(
            f"{pipeline.name}: no feature varies: all {rows} rows are alike.",
            where="split",
            fix="give it features that tell rows apart; see contract.columns and features.exclude",
        )


def _room(pipeline: Pipeline, units: int, least: int, named: str) -> str:
    """What gives both sides enough."""
    needed = 2 * least
    if units < needed:
        return f"give it more rows: the sides need {needed} {named} together, and there are {units}"
    size = math.ceil(20 * max((least + 1) / units, min(pipeline.split.test_size, 0.5))) / 20
    advice = f"give it more rows, or set split.test_size: {min(size, 0.5):g}"
    return advice + (" and split.strategy: stratified" if pipeline.split.strategy == "hash" else "")


def _advice(sides: Sides, pipeline: Pipeline) -> str:
    strategy = pipeline.split.strategy
    advice = "give it more rows, or another split.test_size" + (
        "" if strategy == "time" else " or split.seed"
    )
    if strategy == "hash":
        advice += ", or split.strategy: stratified"
    return advice + _apart(sides, pipeline)


def _apart(sides: Sides, pipeline: Pipeline) -> str:
    """What to do where equal rows are kept together and should not be."""
    if sides.unit == "features":
        return (
            "; where equal rows are different cases, name contract.primary_key and set "
            "split.keep_duplicates_together: false"
        )
    if pipeline.split.strategy == "group" and pipeline.split.keep_duplicates_together:
        return (
            "; groups that share a feature row go together: where equal rows are different cases, "
            "set split.keep_duplicates_together: false"
        )
    return ""


def shuffled(units: Array, seed: int) -> tuple[Array, int]:
    """The place of each row's unit in a shuffle of the units, 0..u-1: int array (n,); and u."""
    import numpy as np

    _, member = np.unique(units, return_inverse=True)
    count = int(member.max(initial=-1)) + 1
    return np.random.default_rng(seed).permutation(count)[member], count


def leaks(train: Sequence[Any] | Array, test: Sequence[Any] | Array) -> int:
    """How many different values stand on both sides."""
    import numpy as np

    return len(np.intersect1d(train, test))
