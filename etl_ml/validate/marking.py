"""Every row with what is known of it: cast values, broken rules, repeated keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etl_ml.lake.identity import ORIGINAL, ROW
from etl_ml.spec.contract import Contract
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import WITHOUT_SCHEMA, KinesisSource
from etl_ml.spec.stream import TOMBSTONE, Stream
from etl_ml.validate.casting import always_casts, cast, polars_type, present
from etl_ml.validate.conditions import breaks
from etl_ml.validate.originals import HELD, UNKNOWN, has_originals, look_into_originals
from etl_ml.validate.rules import UNKNOWN_COLUMNS, Rule, rules_of

if TYPE_CHECKING:
    import polars as pl

SUPERSEDED = "_etl_ml_superseded"
BAD = "_etl_ml_bad"
_CONFLICT = "_etl_ml_conflict"


def value_of(name: str) -> str:
    """The column that holds the cast values of a contracted column."""
    return f"_etl_ml_value {name}"


def _present(name: str) -> str:
    return f"_etl_ml_present {name}"


def _repeated(name: str) -> str:
    return f"_etl_ml_repeated {name}"


def mark(rows: pl.LazyFrame, pipeline: Pipeline) -> tuple[pl.LazyFrame, list[Rule]]:
    """The rows with their cast values, `SUPERSEDED` and `BAD`, and the rules.

    Which rules a bad row breaks is for `flag` to find: there are few of them.
    """
    import narwhals as nw
    import polars as pl

    contract = pipeline.contract
    schema = rows.collect_schema()
    nulls = pipeline.source.null_values
    added: list[pl.Expr] = []
    if with_originals := has_originals(pipeline):
        rows = look_into_originals(rows, pipeline)
    for name, column in contract.columns.items():
        content, there = present(pl.col(name), schema[name], nulls)
        if with_originals:
            there = there | pl.col(HELD).list.contains(name).fill_null(False)
        added.append(there.alias(_present(name)))
        added.append(
            cast(content, schema[name], column).cast(polars_type(column.type)).alias(value_of(name))
        )
    checked = rows.with_columns(added)
    repeated: dict[str, str] = {}
    stream = isinstance(pipeline.source, Stream)
    # A message's own place comes once: only a key of the contract's can come again.
    key = contract.primary_key if stream else pipeline.row_key()
    growing = pipeline.grows and bool(key)
    if growing:
        checked = _mark_older(checked, pipeline)
    elif contract.primary_key:
        checked = _mark_superseded(checked, contract)
        if len(contract.primary_key) == 1:
            repeated[contract.primary_key[0]] = _CONFLICT
    else:
        checked = checked.with_columns(pl.lit(False).alias(SUPERSEDED))
    if stream:  # a message without a value takes back what its key said, and says nothing itself
        tombstone = (pl.col(ORIGINAL) == TOMBSTONE).fill_null(False)
        checked = checked.with_columns(pl.col(SUPERSEDED) | tombstone)
    for name, column in contract.columns.items():
        if column.unique and name not in repeated:
            checked = _mark_repeated(checked, name)
            repeated[name] = _repeated(name)
    required = pipeline.required()
    rules = [
        rule
        for name, column in contract.columns.items()
        for rule in rules_of(
            name,
            column,
            value=value_of(name),
            present=_present(name),
            required=name in required or not column.nullable,
            repeated=repeated.get(name),
            casts=always_casts(schema[name], column) and not with_originals,
        )
    ]
    for text, condition in contract.conditions().items():
        broken = breaks(condition, value_of)
        rules.append(Rule(None, text, broken, broken))
    if isinstance(pipeline.source, WITHOUT_SCHEMA):
        unknown = nw.col(UNKNOWN).list.len().fill_null(0) > 0
        rules.append(Rule(None, UNKNOWN_COLUMNS, unknown, unknown))
    if len(contract.primary_key) > 1 and not growing:
        conflict = nw.col(_CONFLICT)
        rules.append(Rule(", ".join(contract.primary_key), "unique", conflict, conflict))
    possible = [rule.breaks for rule in rules if rule.breaks is not None]
    bad = nw.any_horizontal(*possible, ignore_nulls=True) if possible else nw.lit(False)
    if growing or stream:
        bad = bad & ~nw.col(SUPERSEDED)  # an older row of a key is nobody's concern any more
    marked: pl.LazyFrame = nw.from_native(checked).with_columns(bad.alias(BAD)).to_native()
    return marked, rules


def flag(bad: pl.LazyFrame, rules: list[Rule]) -> pl.LazyFrame:
    """Marked rows that are bad, with one boolean column for every rule."""
    import narwhals as nw

    flags = [rule.broken.alias(rule.flag) for rule in rules]
    flagged: pl.LazyFrame = nw.from_native(bad).with_columns(*flags).to_native()
    return flagged


def _mark_repeated(rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Values that stand in several rows; a superseded row is not another row."""
    import polars as pl

    value = value_of(name)
    repeated = (
        rows.filter(~pl.col(SUPERSEDED))
        .select(value)
        .drop_nulls()
        .group_by(value)
        .len("_etl_ml_count")
        .filter(pl.col("_etl_ml_count") > 1)
        .select(value, pl.lit(True).alias(_repeated(name)))
    )
    return rows.join(repeated, on=value, how="left").with_columns(
        pl.col(_repeated(name)).fill_null(False)
    )


def _mark_older(rows: pl.LazyFrame, pipeline: Pipeline) -> pl.LazyFrame:
    """Of rows with one key, all but the newest: by cursor, else as they were read."""
    import polars as pl

    contract = pipeline.contract
    key = [value_of(n) if n in contract.columns else n for n in pipeline.row_key()]
    order = _order(pipeline, key)
    several = rows.select(key).drop_nulls().group_by(key).len().filter(pl.col("len") > 1)
    newest = (
        rows.join(several.select(key), on=key, how="semi")
        .select(*key, ROW, *(part.alias(f"_{i}") for i, part in enumerate(order)))
        .group_by(key)
        .agg(
            pl.col(ROW)
            .sort_by([f"_{i}" for i in range(len(order))], nulls_last=False)
            .last()
            .alias("_etl_ml_newest")
        )
    )
    return rows.join(newest, on=key, how="left").with_columns(
        (pl.col(ROW) != pl.col("_etl_ml_newest")).fill_null(False).alias(SUPERSEDED)
    )


def _order(pipeline: Pipeline, key: Sequence[str]) -> list[pl.Expr]:
    """What the rows of one key are ordered by."""
    import polars as pl

    source, name = pipeline.source, pipeline.newest_by
    if isinstance(source, Stream):
        *part, place = source.identity
        # Within a partition places alone tell what is newer, whatever a sender's clock says.
        places = [pl.col(place)]
        if isinstance(source, KinesisSource):  # numbers as text, without zeros before them
            places.insert(0, pl.col(place).str.len_bytes())
        return [pl.col("_timestamp").cum_max().over([*key, *part], order_by=places), *places]
    # An identity ends with the number of those before it.
    order = [pl.col(ROW).str.slice(33).cast(pl.Int64)]
    if name is not None:
        order.insert(0, pl.col(value_of(name) if name in pipeline.contract.columns else name))
    return order


def _mark_superseded(rows: pl.LazyFrame, contract: Contract) -> pl.LazyFrame:
    """Of rows with one key: the same content, all but one are superseded; else all conflict."""
    import polars as pl

    key = [value_of(name) for name in contract.primary_key]
    # A cell that could not be cast is not the same as no cell.
    parts = [part for name in contract.columns for part in (value_of(name), _present(name))]
    content = pl.struct(parts).hash()
    groups = (
        rows.select(*key, ROW, content.alias("_etl_ml_content"))
        .drop_nulls(key)
        .group_by(key)
        .agg(
            pl.len().alias("_etl_ml_count"),
            pl.col("_etl_ml_content").n_unique().alias("_etl_ml_contents"),
            pl.col(ROW).min().alias("_etl_ml_first"),
        )
        .filter(pl.col("_etl_ml_count") > 1)
    )
    conflict = (pl.col("_etl_ml_contents") > 1).fill_null(False)
    later = (pl.col(ROW) != pl.col("_etl_ml_first")).fill_null(False)
    return rows.join(groups, on=key, how="left").with_columns(
        conflict.alias(_CONFLICT), (later & ~conflict).alias(SUPERSEDED)
    )
