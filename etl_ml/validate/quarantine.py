"""Rejected rows over all versions: which are still outstanding, and how to try them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from etl_ml.lake import Lake, Version
from etl_ml.lake.identity import INTERNAL, ROW

if TYPE_CHECKING:
    import polars as pl

REASONS = "_reasons"
_IDENTITY = "_etl_ml_identity"
_DIGITS = 32


def quarantines(lake: Lake, pipeline: str) -> list[Version]:
    """Every committed version of `quarantined_data`, newest first."""
    asset = "quarantined_data"
    return [lake.open(pipeline, asset, v) for v in reversed(lake.versions(pipeline, asset))]


def outstanding(lake: Lake, pipeline: str) -> pl.DataFrame:
    """Rows that were rejected and have not passed since, each once.

    A row has passed when a later `validated_data` holds it, or a newer row of its key: an identity
    begins with the hash of the key, else of all cells.

    Returns
    -------
    DataFrame with `_etl_ml_row`, `_reasons` and `last_seen`, those of the newest version that
    rejected the row, and `first_seen`, the oldest
    """
    import polars as pl

    found = quarantines(lake, pipeline)
    made = {version.version: version.manifest.created_at for version in found}
    parts = [
        version.table.scan().select(ROW, REASONS, pl.lit(version.version).alias("version"))
        for version in found
        if version.table.rows
    ]
    if not parts:
        texts = [(ROW, pl.String), ("last_seen", pl.String), ("first_seen", pl.String)]
        return pl.DataFrame(schema=[(REASONS, pl.List(pl.String)), *texts])
    rows = (
        pl.concat(parts)
        .group_by(ROW)
        .agg(
            pl.col(REASONS).sort_by("version").last(),
            pl.col("version").max().alias("last_seen"),
            pl.col("version").min().alias("first_seen"),
        )
        .collect(engine="streaming")
    )
    rows = rows.with_columns(
        pl.col("last_seen").replace_strict(made, return_dtype=pl.String).alias("made"),
        _identity().alias(_IDENTITY),
    )
    for number in reversed(lake.versions(pipeline, "validated_data")):
        valid = lake.open(pipeline, "validated_data", number)
        at = valid.manifest.created_at
        if not rows.height or at <= str(rows["made"].min()):
            break  # it, and what is older, came before every rejection that is left
        passed = valid.table.scan().select(_identity().alias(_IDENTITY)).unique()
        here = passed.join(rows.lazy().select(_IDENTITY), on=_IDENTITY, how="semi")
        known = here.collect(engine="streaming")[_IDENTITY]
        rows = rows.filter(
            ~(pl.col(_IDENTITY).is_in(known.implode()) & (pl.col("made") < pl.lit(at)))
        )
    return rows.drop("made", _IDENTITY).sort(ROW)


def with_history(raw: pl.LazyFrame, history: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """Rows as they were read, and those that earlier runs rejected and that are not among them.

    Rows that have passed since are tried again too: they are in no later reading, and would be
    lost otherwise. So trying twice gives the same.

    Parameters
    ----------
    raw : lazy frame with `_etl_ml_row`
    history : the tables of `quarantined_data`, newest first; of rows with one identity the newest
        counts, and none whose key, else whose content, is in `raw`
    """
    import polars as pl

    if not history:
        return raw
    schema = raw.collect_schema()
    parts = [
        _as_read(rows, schema).with_columns(pl.lit(place).alias("_etl_ml_place"))
        for place, rows in enumerate(history)
    ]
    rejected = (
        pl.concat(parts, how="diagonal_relaxed")
        .sort("_etl_ml_place")
        .unique(ROW, keep="first", maintain_order=True)
        .drop("_etl_ml_place")
        .with_columns(_identity().alias(_IDENTITY))
        .join(raw.select(_identity().alias(_IDENTITY)).unique(), on=_IDENTITY, how="anti")
        .drop(_IDENTITY)
    )
    return pl.concat([raw, rejected], how="diagonal_relaxed").select(schema.names())


def _as_read(rows: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """A rejected row's columns in the types that the source has now, else as text.

    Text is what every type can be read from again: validation casts it, exactly or not at all.
    """
    import polars as pl

    kept = []
    for name, kind in rows.collect_schema().items():
        if name not in schema:
            continue
        column = pl.col(name)
        if kind != schema[name] and name not in INTERNAL:
            column = column.cast(pl.String, strict=False)
        kept.append(column)
    return rows.select(kept)


def _identity() -> pl.Expr:
    import polars as pl

    return pl.col(ROW).str.head(_DIGITS)


def counted(reasons: Iterable[Sequence[str]]) -> list[tuple[str, int]]:
    """How many rows have each reason, the most frequent first."""
    from collections import Counter

    counts = Counter(reason for row in reasons for reason in row)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
