"""What the valid rows look like, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import ROW
from etl_ml.spec.contract import NUMBERS, Column
from etl_ml.validate.distinct import Distinct
from etl_ml.validate.distribution import of_levels, of_numbers
from etl_ml.validate.histogram import histogram
from etl_ml.validate.moments import Moments
from etl_ml.validate.sample import RowSample, threshold_for

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TOP = 10


def profile(rows: pl.LazyFrame, columns: Mapping[str, Column | None]) -> Profile:
    """Counts and statistics of each column; the rows are read once, batch by batch.

    Parameters
    ----------
    rows : lazy frame of valid rows with `_etl_ml_row`
    columns : names and contracts; None for a column that is kept without one
    """
    import polars as pl

    count = rows.select(pl.len()).collect(engine="streaming").item()
    made = Profile(columns, rows.collect_schema(), expected=count)
    for batch in rows.collect_batches(engine="streaming"):
        made.add(batch)
    return made


class Profile:
    """Counts and statistics of each column; profiles of parts merge to that of the whole.

    Parameters
    ----------
    columns : names and contracts; None for a column that is kept without one
    schema : their types
    expected : about how many rows will be added, where that is known: it spares work

    Attributes
    ----------
    rows : how many rows were added
    sample : the rows that quantiles, histograms and levels are taken from: all of them up to
        131,072, else so many, drawn by the hash of their identity
    """

    def __init__(
        self,
        columns: Mapping[str, Column | None],
        schema: Mapping[str, pl.DataType],
        expected: int = 0,
    ) -> None:
        self.rows = 0
        self.sample = RowSample(threshold=threshold_for(expected))
        self._columns = {
            name: _ColumnProfile(name, column, schema[name]) for name, column in columns.items()
        }

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows into account; without `_etl_ml_row` their numbers are their identities."""
        import polars as pl

        if ROW not in rows.columns:
            rows = rows.with_row_index(ROW, offset=self.rows)
        rows = rows.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))
        hashes = rows.select(
            column.distinct.query(name)
            for name, column in self._columns.items()
            if _is_scalar(rows.schema[name])
        )
        for name, column in self._columns.items():
            column.add(rows[name], hashes[name][0] if name in hashes.columns else None)
        self.sample.add(rows)
        self.rows += rows.height

    def merge(self, other: Profile) -> None:
        """Take the rows of another part, with the same columns, into account."""
        for name, column in self._columns.items():
            column.merge(other._columns[name])
        self.sample.merge(other.sample)
        self.rows += other.rows

    def report(self) -> dict[str, Any]:
        """What `profile.json` holds.

        Returns
        -------
        dict with `rows`, `sampled_rows` and `columns`: of each column type, count (not null),
        nulls, distinct (estimated, 2.2 %), and unless it is sensitive: min and max; of numbers
        mean, std (n - 1), and from the sample quantiles (linear interpolation) and a histogram; of
        text and few-valued columns the most frequent values in the sample; and of what drift is
        looked for in, the distribution that live rows are held against.
        """
        sample = self.sample.rows()
        return {
            "rows": self.rows,
            "sampled_rows": sample.height,
            "columns": {name: column.report(sample) for name, column in self._columns.items()},
        }


class _ColumnProfile:
    def __init__(self, name: str, column: Column | None, kind: pl.DataType) -> None:
        self.distinct = Distinct()
        self._name, self._column, self._kind = name, column, kind
        self._count = self._nulls = 0
        self._min: Any = None
        self._max: Any = None
        self._moments = Moments()

    def add(self, values: pl.Series, hashes: pl.Series | None) -> None:
        nulls = values.null_count()
        self._nulls += nulls
        self._count += values.len() - nulls
        if hashes is None:
            return
        self.distinct.add(hashes)
        self._widen(values.min(), values.max())
        if values.dtype.is_numeric():
            self._moments = self._moments.merge(Moments.of(values))

    def merge(self, other: _ColumnProfile) -> None:
        self._nulls += other._nulls
        self._count += other._count
        self.distinct.merge(other.distinct)
        self._widen(other._min, other._max)
        self._moments = self._moments.merge(other._moments)

    def _widen(self, low: Any, high: Any) -> None:
        if low is not None:
            self._min = low if self._min is None else min(self._min, low)
            self._max = high if self._max is None else max(self._max, high)

    def report(self, sample: pl.DataFrame) -> dict[str, Any]:
        import numpy as np
        import polars as pl

        column, kind = self._column, self._kind
        told: dict[str, Any] = {
            "type": column.type if column else str(kind),
            "count": self._count,
            "nulls": self._nulls,
        }
        if not _is_scalar(kind):
            return told
        told["distinct"] = self.distinct.estimate
        if column is not None and column.sensitive:
            return told
        told |= {"min": _shortened(self._min), "max": _shortened(self._max)}
        values = sample[self._name] if sample.width else pl.Series(dtype=kind)
        values = values.drop_nulls()
        if kind.is_numeric():
            numbers = np.sort(values.cast(pl.Float64).to_numpy())
            told |= {
                "mean": self._moments.mean,
                "std": self._moments.std,
                "quantiles": {f"{q:g}": _quantile(numbers, q) for q in _QUANTILES},
                "histogram": histogram(numbers, whole=kind.is_integer()),
            }
        if _is_countable(kind, column):
            told["top"] = _most_frequent(values)
        if column is not None and column.type in NUMBERS:
            told["distribution"] = of_numbers(numbers)
        elif column is not None and kind in (pl.String, pl.Boolean):
            told["distribution"] = of_levels(values)
        return told


def _quantile(numbers: np.ndarray[Any, Any], q: float) -> float | None:
    """Of ascending numbers, by linear interpolation (Hyndman and Fan 1996, type 7)."""
    if not len(numbers):
        return None
    place = q * (len(numbers) - 1)
    below = int(place)
    low, high = float(numbers[below]), float(numbers[min(below + 1, len(numbers) - 1)])
    share = place - below
    return low * (1 - share) + high * share  # not by their difference, which may be no float


def _most_frequent(values: pl.Series) -> list[dict[str, Any]]:
    counted = (
        values.alias("value").value_counts().sort(["count", "value"], descending=[True, False])
    )
    return [{"value": _shortened(value), "count": n} for value, n in counted.head(_TOP).iter_rows()]


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > 100:
        return f"{value[:99]}…"
    return 0.0 if isinstance(value, float) and value == 0 else value


def _is_scalar(kind: pl.DataType) -> bool:
    import polars as pl

    return not (kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Null))


def _is_countable(kind: pl.DataType, column: Column | None) -> bool:
    import polars as pl

    if column is not None and column.allowed is not None:
        return True
    return kind in (pl.String, pl.Boolean)
