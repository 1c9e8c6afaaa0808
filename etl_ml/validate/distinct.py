"""How many different values there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_SIZE = 2048
_ALL = 2**64
_SEED = 1


class Distinct:
    """An estimate of the number of different values from the 2,048 smallest of their hashes.

    Exact up to 2,047 values; above, the relative standard error is 2.2 %. Estimates of parts merge
    to the estimate of the whole.

    References
    ----------
    Beyer, Haas, Reinwald, Sismanis, Gemulla (2007), On synopses for distinct-value estimation under
    multiset operations, SIGMOD: the unbiased (k - 1) / U(k).
    """

    def __init__(self) -> None:
        import polars as pl

        self._hashes = pl.Series(dtype=pl.UInt64)
        self._threshold = _ALL

    def query(self, name: str) -> pl.Expr:
        """What `add` wants to know of a column, as one list."""
        import polars as pl

        hashes = pl.col(name).drop_nulls().hash(_SEED)
        if self._threshold < _ALL:
            hashes = hashes.filter(hashes < pl.lit(self._threshold, pl.UInt64))
        return hashes.unique().implode()

    def add(self, hashes: pl.Series) -> None:
        """Take the answer of `query` into account."""
        import polars as pl

        known = pl.concat([self._hashes, hashes.cast(pl.UInt64)]).unique().sort()
        self._hashes = known.head(_SIZE)
        if known.len() >= _SIZE:
            self._threshold = int(self._hashes[-1])

    def merge(self, other: Distinct) -> None:
        """Take the values of another part into account."""
        self.add(other._hashes)

    @property
    def estimate(self) -> int:
        if self._hashes.len() < _SIZE:
            return self._hashes.len()
        return round((_SIZE - 1) * (_ALL / int(self._hashes[-1])))
