"""The front door: rows that keep the contract, and rows that do not and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import INTERNAL, ORIGINAL, ROW
from etl_ml.spec.contract import Contract
from etl_ml.spec.error import EtlMlError, listed, nearest
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import MongoSource
from etl_ml.validate.marking import SUPERSEDED, mark, value_of
from etl_ml.validate.originals import HELD, UNKNOWN, original_cells
from etl_ml.validate.profile import profile
from etl_ml.validate.rules import Rule
from etl_ml.validate.target import check_target

if TYPE_CHECKING:
    import polars as pl

REASONS = "_reasons"
_EXAMPLES = 5
_LOOKED_AT = 1000


class SchemaMismatch(EtlMlError):
    """The source's columns are not the contract's."""


@dataclass(frozen=True)
class Validation:
    """Rows sorted by the contract.

    Attributes
    ----------
    valid : lazy frame of the contract's columns in their types, and `_etl_ml_row`
    quarantined : lazy frame of the rows as they were read, with `_reasons` (list of text)
    report : what `validation_report.json` holds
    profile : what `profile.json` holds, of the valid rows
    problems : by the name of the blocking check that fails, what a person is told
    """

    valid: pl.LazyFrame
    quarantined: pl.LazyFrame
    report: dict[str, Any]
    profile: dict[str, Any]
    problems: dict[str, str]

    @property
    def passed(self) -> bool:
        return not self.problems


def validate(rows: pl.LazyFrame, pipeline: Pipeline) -> Validation:
    """Split rows into those that keep the contract and those that do not.

    Parameters
    ----------
    rows : lazy frame of n rows as they were read, with `_etl_ml_row`; scanned in streams
    pipeline : its contract, target and validation sections apply

    Returns
    -------
    Validation
        Valid, quarantined and superseded rows are together exactly n. A row of an incremental
        source is superseded by a newer one of its key; of any other, by one of its key with the
        same content.

    Raises
    ------
    SchemaMismatch
        A contracted column is absent, or one that is not contracted is there. Nothing was read.
    """
    import polars as pl

    contract = pipeline.contract
    names = [name for name in rows.collect_schema().names() if name not in INTERNAL]
    kept = _check_columns(names, pipeline)
    checked, rules = mark(rows, pipeline)
    counts = _count(checked, rules)
    good = checked.filter(~_any(rules) & ~pl.col(SUPERSEDED))
    columns = {name: value_of(name) if name in contract.columns else name for name in kept}
    valid = good.select(*(pl.col(column).alias(name) for name, column in columns.items()), ROW)
    bad = _with_reasons(checked.filter(_any(rules)), rules).select(*names, ROW, ORIGINAL, REASONS)
    if not counts["quarantined"]:
        bad = bad.collect_schema().to_frame().lazy()
    checks = [
        {
            "name": rule.name,
            "column": rule.column,
            "passed": not counts[rule.flag],
            "failed_rows": counts[rule.flag],
            "examples": _examples(checked, rule, contract) if counts[rule.flag] else [],
        }
        for rule in rules
    ]
    total, quarantined = counts["rows"], counts["quarantined"]
    report: dict[str, Any] = {
        "rows": total,
        "valid_rows": total - quarantined - counts["superseded"],
        "quarantined_rows": quarantined,
        "superseded_rows": counts["superseded"],
    }
    problems = _problems(report, rules, counts, pipeline)
    if report["valid_rows"]:
        problems |= check_target(valid, pipeline)
    report["passed"] = not problems
    report["checks"] = [*checks, *_table_checks(problems)]
    shown = {name: pipeline.contract.columns.get(name) for name in kept}
    return Validation(valid, bad, report, profile(valid, shown), problems)


def _check_columns(names: Sequence[str], pipeline: Pipeline) -> list[str]:
    """The columns of a valid row."""
    contract, where = pipeline.contract, f"source {pipeline.source.address}"
    if isinstance(pipeline.source, MongoSource) and "_id" not in contract.columns:
        names = [name for name in names if name != "_id"]  # every document has one
    missing = [name for name in contract.columns if name not in names]
    unknown = [name for name in names if name not in contract.columns]
    if missing:
        close = nearest(missing[0], unknown)
        raise SchemaMismatch(
            f"{pipeline.name}: the data has no column {listed(map(repr, missing))}.",
            seen=f"its columns are {listed(names)}",
            where=where,
            close=repr(close) if close else None,
            fix=f"rename it in the source, or under contract.columns (key {missing[0]!r})",
        )
    if unknown and contract.unknown_columns == "fail":
        close = nearest(unknown[0], contract.columns)
        raise SchemaMismatch(
            f"{pipeline.name}: column {listed(map(repr, unknown))} is not in the data contract.",
            seen=f"column {names.index(unknown[0]) + 1} of {len(names)}",
            where=where,
            close=repr(close) if close else None,
            fix="add it under contract.columns, or set contract.unknown_columns: drop",
        )
    extra = unknown if contract.unknown_columns == "keep" else []
    return [*contract.columns, *extra]


def _any(rules: Iterable[Rule]) -> pl.Expr:
    import polars as pl

    return pl.any_horizontal(pl.col(rule.flag) for rule in rules)


def _count(checked: pl.LazyFrame, rules: Sequence[Rule]) -> dict[str, int]:
    import polars as pl

    sums = [pl.col(rule.flag).sum() for rule in rules]
    return (
        checked.select(
            pl.len().alias("rows"),
            _any(rules).sum().alias("quarantined"),
            (pl.col(SUPERSEDED) & ~_any(rules)).sum().alias("superseded"),
            *sums,
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )


def _with_reasons(bad: pl.LazyFrame, rules: Sequence[Rule]) -> pl.LazyFrame:
    import polars as pl

    of_cells = [rule for rule in rules if rule.column is not None]
    found = pl.concat_list(
        pl.when(pl.col(rule.flag)).then(pl.lit(rule.reason)) for rule in of_cells
    ).list.drop_nulls()
    if len(of_cells) < len(rules):
        unknown = pl.col(UNKNOWN).list.eval(pl.element() + ": unknown_columns")
        found = found.list.concat(unknown.fill_null([]))
    return bad.with_columns(found.alias(REASONS))


def _examples(checked: pl.LazyFrame, rule: Rule, contract: Contract) -> list[str | None]:
    """The smallest distinct cells that broke a rule, as text; none of a sensitive column."""
    import polars as pl

    if rule.column is None:
        names = checked.filter(pl.col(rule.flag)).select(pl.col(UNKNOWN).explode().unique().sort())
        return names.head(_EXAMPLES).collect(engine="streaming").to_series().str.head(100).to_list()
    column = contract.columns.get(rule.column)
    if column is None or column.sensitive:
        return []
    kind = checked.collect_schema()[rule.column]
    if kind.is_nested() or kind == pl.Binary:
        return []
    cell = pl.col(rule.column).cast(pl.String, strict=False)
    if rule.name == "type" and HELD in checked.collect_schema():
        broken = checked.filter(pl.col(rule.flag)).select(ORIGINAL, cell).head(_LOOKED_AT)
        found = broken.collect(engine="streaming")
        texts = original_cells(found[ORIGINAL], rule.column) + found[rule.column].to_list()
        return [text[:100] for text in sorted({t for t in texts if t is not None})[:_EXAMPLES]]
    cells = checked.filter(pl.col(rule.flag)).select(cell).unique().sort(rule.column)
    values = cells.head(_EXAMPLES).collect(engine="streaming").to_series()
    return [value if value is None else value[:100] for value in values]


def _problems(
    report: dict[str, Any], rules: Sequence[Rule], counts: dict[str, int], pipeline: Pipeline
) -> dict[str, str]:
    """What stops the run, by check."""
    limits = pipeline.validation
    problems = {}
    share = report["quarantined_rows"] / max(report["rows"], 1)
    if share > limits.max_quarantined:
        broken = Counter({rule.reason: counts[rule.flag] for rule in rules if counts[rule.flag]})
        reasons = listed(f"{reason} ({n} rows)" for reason, n in broken.most_common(3))
        problems["quarantined_share"] = (
            f"{report['quarantined_rows']} of {report['rows']} rows ({share:.1%}) break the "
            f"contract; validation.max_quarantined is {limits.max_quarantined:.1%}. "
            f"Most frequent: {reasons}. The rows are in quarantined_data."
        )
    if report["valid_rows"] < max(limits.min_rows, 1):
        problems["row_count"] = (
            f"{report['valid_rows']} valid rows; validation.min_rows is {limits.min_rows}."
        )
    return problems


def _table_checks(problems: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "column": None,
            "passed": name not in problems,
            "failed_rows": 0,
            "examples": [],
            **({"problem": problems[name]} if name in problems else {}),
        }
        for name in ("row_count", "quarantined_share", "target")
    ]
