"""Cells that broke a rule, for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl_ml.lake.identity import ORIGINAL, ROW
from etl_ml.spec.contract import Contract
from etl_ml.spec.expression import columns_of
from etl_ml.validate.marking import value_of
from etl_ml.validate.originals import HELD, UNKNOWN, original_cells
from etl_ml.validate.rules import UNKNOWN_COLUMNS, Rule

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 5
_LONGEST = 100
# The same rows whatever their order, and no more than memory holds.
_LOOKED_AT = 10_000


def examples(rejected: pl.LazyFrame, rule: Rule, contract: Contract) -> list[str | None]:
    """Up to five different cells as they were read, in order; none of a sensitive column.

    Parameters
    ----------
    rejected : lazy frame of rejected rows with a boolean column for each rule
    """
    import polars as pl

    column = contract.columns.get(rule.column or "")
    if rule.column is not None and (column is None or column.sensitive):
        return []
    broken = rejected.filter(pl.col(rule.flag)).bottom_k(_LOOKED_AT, by=ROW)
    if rule.name == UNKNOWN_COLUMNS:
        return _smallest(broken.select(pl.col(UNKNOWN).explode()))
    if rule.column is None:
        return _rows(broken, rule.name, contract)
    kind = rejected.collect_schema()[rule.column]
    if kind.is_nested() or kind == pl.Binary:
        return []
    cell = pl.col(rule.column).cast(pl.String, strict=False)
    if rule.name != "type" or HELD not in rejected.collect_schema():
        return _smallest(broken.select(cell))
    found = broken.select(ORIGINAL, cell).collect(engine="streaming")
    texts = original_cells(found[ORIGINAL], rule.column) + found[rule.column].to_list()
    return [text[:_LONGEST] for text in sorted({t for t in texts if t is not None})[:_SHOWN]]


def _rows(broken: pl.LazyFrame, rule: str, contract: Contract) -> list[str | None]:
    """Of a rule between columns: the cells that it looks at, one text a row."""
    import polars as pl

    named = columns_of(contract.conditions()[rule])
    cells = [
        pl.concat_str(
            pl.lit(f"{name} "),
            pl.col(value_of(name)).cast(pl.String, strict=False).str.head(60).fill_null("null"),
        )
        for name in named
        if not contract.columns[name].sensitive
    ]
    return _smallest(broken.select(pl.concat_str(cells, separator=", "))) if cells else []


def _smallest(cells: pl.LazyFrame) -> list[str | None]:
    frame = cells.unique().collect(engine="streaming")
    values = frame.to_series().sort().head(_SHOWN)
    return [value if value is None else value[:_LONGEST] for value in values]
