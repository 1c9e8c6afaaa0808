"""Cleaning: duplicates and columns that valid rows lose."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from etl_ml.lake.identity import ROW
from etl_ml.spec.contract import Column
from etl_ml.spec.transformation import Cleaning as CleaningSpec
from etl_ml.spec.transformation import Outliers
from etl_ml.transform.outliers import count_outliers

if TYPE_CHECKING:
    import polars as pl

_BLOCK = 50_000


@dataclass(frozen=True)
class Cleaning:
    """Clean rows and what was done to them.

    Attributes
    ----------
    rows : lazy frame of what is left, with `_etl_ml_row`
    report : what `cleaning_report.json` holds
    json_rows : how many rows `write_json` writes
    """

    rows: pl.LazyFrame
    report: dict[str, Any]
    json_rows: int

    def write_json(self, sink: IO[bytes]) -> None:
        """Write the rows as gzipped JSON lines, ordered by `_etl_ml_row`, which is left out."""
        ordered = self.rows.sort(ROW).head(self.json_rows).drop(ROW)
        # Neither a name nor a time in the header: equal rows, equal bytes.
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=sink, mtime=0) as stream:
            for block in ordered.collect_batches(engine="streaming", chunk_size=_BLOCK):
                stream.write(block.write_ndjson().encode())


def clean(
    rows: pl.LazyFrame,
    cleaning: CleaningSpec,
    *,
    outliers: Outliers | None = None,
    features: Mapping[str, Column] | None = None,
) -> Cleaning:
    """Take duplicates and unwanted columns out of valid rows.

    Parameters
    ----------
    rows : lazy frame of valid rows with `_etl_ml_row`
    outliers, features : the limits whose reach is to be counted, and the columns; nothing is
        limited here

    Returns
    -------
    Cleaning
        Of rows that are equal in every column, `_etl_ml_row` aside, the one with the smallest
        `_etl_ml_row` stays when duplicates are dropped.
    """
    import polars as pl

    names = [name for name in rows.collect_schema().names() if name != ROW]
    content = pl.struct(names).hash().n_unique().alias("distinct")
    counted = rows.select(pl.len().alias("rows"), content).collect(engine="streaming")
    total, distinct = counted.row(0)
    dropped = 0
    if cleaning.duplicates == "drop":
        rows = rows.group_by(names).agg(pl.col(ROW).min()).select(*names, ROW)
        dropped = total - distinct
    columns = [name for name in cleaning.drop_columns if name in names]
    left = total - dropped
    report = {
        "rows_in": total,
        "rows_out": left,
        "duplicates": {"found": total - distinct, "dropped": dropped},
        "dropped_columns": columns,
        "json": {
            "rows": min(left, cleaning.json_rows),
            "complete": left <= cleaning.json_rows,
        },
    }
    rows = rows.drop(columns)
    if outliers is not None and features is not None:
        report["outliers"] = count_outliers(rows, features, outliers)
    return Cleaning(rows, report, min(left, cleaning.json_rows))
