"""A uniform sample of rows that depends on the rows alone: not on their order, batches or parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl_ml.lake.identity import ROW

if TYPE_CHECKING:
    import polars as pl

# The rank of a quantile of so many rows is off by 0.005 with a probability of 0.03 % (normal
# approximation of the binomial), of any at all by 0.3 % (Dvoretzky, Kiefer and Wolfowitz).
SIZE = 131_072
ALL = 2**64
_HASH = "_etl_ml_hash"
_SEED = 0
# Longer text is known by its beginning and its hash.
_LONGEST = 256


class RowSample:
    """The rows with the smallest hashes of `_etl_ml_row` (bottom-k sampling).

    Samples of parts merge to the sample of the whole, and of two samples with one `threshold` a
    row that is in both tables is in both samples or in none: what is new in a table can be told
    from the samples.

    References
    ----------
    Cohen and Kaplan (2007), Summarizing data using bottom-k sketches, PODC.
    Polars' hash is stable within a release, and samples are never stored.

    """

    def __init__(self, size: int = SIZE, threshold: int = ALL) -> None:
        self._threshold = threshold
        self._size = size
        self._parts: list[pl.DataFrame] = []
        self._kept = 0

    @property
    def threshold(self) -> int:
        """Rows whose hash is below it are in the sample, all of them; `ALL` when every row is."""
        self._cut()
        return self._threshold

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows into account."""
        import polars as pl

        rows = rows.with_columns(pl.col(ROW).hash(_SEED).alias(_HASH))
        if self._threshold < ALL:
            rows = rows.filter(below(self._threshold))
        self._parts.append(_bounded(rows))
        self._kept += rows.height
        if self._kept > 2 * self._size:
            self._cut()

    def merge(self, other: RowSample) -> None:
        """Take the rows of another sample, of other rows, into account."""
        import polars as pl

        self._threshold = min(self.threshold, other.threshold)
        parts = [*self._parts, *other._parts]
        self._parts = [part.filter(below(self._threshold)) for part in parts]
        if self._parts:
            self._parts = [pl.concat(self._parts, how="vertical_relaxed")]
        self._kept = sum(part.height for part in self._parts)
        self._cut()

    def rows(self, threshold: int = ALL) -> pl.DataFrame:
        """The sample, or those rows of it whose hashes are below a threshold."""
        import polars as pl

        self._cut()
        if not self._parts:
            return pl.DataFrame()
        (rows,) = self._parts
        return rows.filter(below(threshold)).drop(_HASH)

    def _cut(self) -> None:
        import polars as pl

        if len(self._parts) > 1:
            self._parts = [pl.concat(self._parts)]
        if self._kept > self._size:
            rows = self._parts[0].bottom_k(self._size + 1, by=_HASH)
            self._threshold = int(rows[_HASH].max())  # type: ignore[arg-type]
            self._parts = [rows.filter(below(self._threshold))]
            self._kept = self._parts[0].height


def below(threshold: int) -> pl.Expr:
    """Whether a row whose hash is known belongs to the sample with this threshold."""
    import polars as pl

    return pl.lit(True) if threshold >= ALL else pl.col(_HASH) < pl.lit(threshold, pl.UInt64)


def threshold_for(count: int, size: int = SIZE) -> int:
    """A threshold below which somewhat more than `size` of so many rows lie."""
    # A tenth more: the number of rows below a threshold is random.
    return ALL if count <= size else min(ALL, ALL * 11 * size // (10 * count))


def sample_of(rows: pl.LazyFrame, count: int, size: int = SIZE) -> RowSample:
    """The sample of a table that is scanned, of which little more than the sample is decoded.

    Parameters
    ----------
    rows : lazy frame with `_etl_ml_row`
    count : about how many rows it has
    """
    import polars as pl

    sample = RowSample(size, threshold_for(count, size))
    if sample.threshold < ALL:
        rows = rows.filter(pl.col(ROW).hash(_SEED) < pl.lit(sample.threshold, pl.UInt64))
    for batch in rows.collect_batches(engine="streaming"):
        sample.add(batch)
    return sample


def _bounded(rows: pl.DataFrame) -> pl.DataFrame:
    """Long text cut, so that a sample of long texts fits into memory."""
    import polars as pl

    cut = []
    for name, kind in rows.schema.items():
        if kind != pl.String or name == ROW:
            continue
        longest = rows[name].str.len_bytes().max()
        if isinstance(longest, int) and longest > _LONGEST:
            text = pl.col(name)
            known = pl.concat_str(text.str.head(_LONGEST // 4), pl.lit("… "), text.hash(_SEED))
            cut.append(pl.when(text.str.len_bytes() > _LONGEST).then(known).otherwise(text))
    return rows.with_columns(cut) if cut else rows
