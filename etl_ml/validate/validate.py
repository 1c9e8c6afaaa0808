"""The front door: rows that keep the contract, and rows that do not and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import INTERNAL, ORIGINAL, ROW
from etl_ml.lake.parquet_file import ParquetFile, room, sink
from etl_ml.spec.error import EtlMlError, listed, nearest
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import STREAMS
from etl_ml.validate.examples import examples
from etl_ml.validate.marking import BAD, SUPERSEDED, flag, mark, value_of
from etl_ml.validate.originals import NO_MESSAGE, UNKNOWN
from etl_ml.validate.profile import profile
from etl_ml.validate.quarantine import REASONS
from etl_ml.validate.rules import UNKNOWN_COLUMNS, Rule
from etl_ml.validate.sample import RowSample
from etl_ml.validate.target import check_range, check_target

if TYPE_CHECKING:
    import polars as pl


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
    sample : of the valid rows, for `drift`
    valid_file : the valid rows on disk, if a folder was given
    """

    valid: pl.LazyFrame
    quarantined: pl.LazyFrame
    report: dict[str, Any]
    profile: dict[str, Any]
    problems: dict[str, str]
    sample: RowSample
    valid_file: ParquetFile | None = None

    @property
    def passed(self) -> bool:
        return not self.problems


def validate(rows: pl.LazyFrame, pipeline: Pipeline, *, folder: Path | None = None) -> Validation:
    """Split rows into those that keep the contract and those that do not.

    One pass over the rows sorts, counts and writes them, and one over the valid rows profiles them;
    a key or a unique column asks for another over these columns.

    Parameters
    ----------
    rows : lazy frame of n rows as they were read, with `_etl_ml_row`
    pipeline : its contract, target and validation sections apply
    folder : where valid and rejected rows are set down, to be read while it exists; without it
        they are held in memory

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
    columns = {name: value_of(name) if name in contract.columns else name for name in kept}
    valid = checked.filter(~pl.col(BAD) & ~pl.col(SUPERSEDED)).select(
        *(pl.col(column).alias(name) for name, column in columns.items()), ROW
    )
    counts, valid, rejected, file = _one_pass(checked, valid, rules, folder)
    # Read again from where it was just written: for less than a second consumer of the pass costs.
    found = profile(valid, {name: contract.columns.get(name) for name in kept})
    broken = _broken(rejected, rules)
    report: dict[str, Any] = {
        "rows": counts["rows"],
        "valid_rows": found.rows,
        "quarantined_rows": counts["quarantined"],
        "superseded_rows": counts["superseded"],
    }
    _conserve(report, pipeline)
    checks = [
        {
            "name": rule.name,
            "column": rule.column,
            "passed": not broken[rule.flag],
            "failed_rows": broken[rule.flag],
            "examples": examples(rejected, rule, contract) if broken[rule.flag] else [],
        }
        for rule in rules
    ]
    problems = _problems(report, rules, broken, pipeline)
    if report["valid_rows"]:
        problems |= _check_target(valid, pipeline)
    report["passed"] = not problems
    report["checks"] = [*checks, *_table_checks(problems)]
    bad = _with_reasons(rejected, rules, pipeline).select(*names, ROW, ORIGINAL, REASONS)
    return Validation(valid, bad, report, found.report(), problems, found.sample, file)


def _one_pass(
    checked: pl.LazyFrame, valid: pl.LazyFrame, rules: list[Rule], folder: Path | None
) -> tuple[dict[str, int], pl.LazyFrame, pl.LazyFrame, ParquetFile | None]:
    """Counts, valid rows and flagged rejected rows."""
    import polars as pl

    rejected = flag(checked.filter(pl.col(BAD)), rules)
    totals = checked.select(
        pl.len().alias("rows"),
        pl.col(BAD).sum().alias("quarantined"),
        (pl.col(SUPERSEDED) & ~pl.col(BAD)).sum().alias("superseded"),
    )
    if folder is None:
        counts, *held = pl.collect_all([totals, valid, rejected], engine="streaming")
        return counts.row(0, named=True), held[0].lazy(), held[1].lazy(), None
    files = [ParquetFile(folder / f"{name}.parquet") for name in ("valid", "rejected")]
    sinks = [sink(rows, f.path) for rows, f in zip((valid, rejected), files, strict=True)]
    with room(folder):
        counts, *_ = pl.collect_all([totals, *sinks], engine="streaming")
    return counts.row(0, named=True), files[0].scan(), files[1].scan(), files[0]


def _conserve(report: Mapping[str, int], pipeline: Pipeline) -> None:
    parts = [report[f"{kind}_rows"] for kind in ("valid", "quarantined", "superseded")]
    if sum(parts) != report["rows"]:
        raise EtlMlError(
            f"{pipeline.name}: {report['rows']} rows were read, but valid, quarantined and "
            f"superseded are {' + '.join(map(str, parts))}; nothing was written.",
            fix="the source's table has changed while it was read, or this is a defect of "
            "etl_ml; run again, and report it if it stays",
        )


def _check_columns(names: Sequence[str], pipeline: Pipeline) -> list[str]:
    """The columns of a valid row."""
    contract, where = pipeline.contract, f"source {pipeline.source.address}"
    implied = set(pipeline.source.implied) - contract.columns.keys()
    names = [name for name in names if name not in implied]
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


def _broken(rejected: pl.LazyFrame, rules: Sequence[Rule]) -> dict[str, int]:
    """How many rows break each rule."""
    import polars as pl

    sums = [pl.col(rule.flag).sum() for rule in rules]
    return rejected.select(sums).collect(engine="streaming").row(0, named=True)


def _with_reasons(bad: pl.LazyFrame, rules: Sequence[Rule], pipeline: Pipeline) -> pl.LazyFrame:
    import polars as pl

    of_cells = [rule for rule in rules if rule.name != UNKNOWN_COLUMNS]
    found = pl.concat_list(
        pl.when(pl.col(rule.flag)).then(pl.lit(rule.reason)) for rule in of_cells
    ).list.drop_nulls()
    if len(of_cells) < len(rules):
        source = pipeline.source
        form = source.format if isinstance(source, STREAMS) else None
        unknown = pl.col(UNKNOWN).list.eval(
            pl.when(pl.element() == NO_MESSAGE)
            .then(pl.lit(f"{NO_MESSAGE}: {form}"))
            .otherwise(pl.element() + f": {UNKNOWN_COLUMNS}")
        )
        found = found.list.concat(unknown.fill_null([]))
    return bad.with_columns(found.alias(REASONS))


def _problems(
    report: dict[str, Any], rules: Sequence[Rule], broken: dict[str, int], pipeline: Pipeline
) -> dict[str, str]:
    """What stops the run, by check."""
    limits = pipeline.validation
    problems = {}
    share = report["quarantined_rows"] / max(report["rows"], 1)
    if share > limits.max_quarantined:
        failed = Counter({r.reason: broken[r.flag] for r in rules if broken[r.flag]})
        reasons = listed(f"{reason} ({n} rows)" for reason, n in failed.most_common(3))
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


def _check_target(valid: pl.LazyFrame, pipeline: Pipeline) -> dict[str, str]:
    import polars as pl

    target = pipeline.target.column
    if pipeline.target.task == "regression":
        ends = valid.select(low=pl.col(target).min(), high=pl.col(target).max())
        low, high = ends.collect(engine="streaming").row(0)
        return check_range(low, high, pipeline)
    labels = valid.group_by(target).len().collect(engine="streaming").sort(target)
    return check_target(dict(labels.iter_rows()), pipeline)
