"""Whether new rows come from where the known ones came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import ROW
from etl_ml.spec.contract import NUMBERS
from etl_ml.spec.pipeline import Pipeline
from etl_ml.validate.sample import ALL, SIZE, RowSample, sample_of
from etl_ml.validate.statistics import Test, chi2, ks, nulls

if TYPE_CHECKING:
    import polars as pl

TOO_FEW = 200
# Enough to find what is worth finding: a distance of 0.1 has a p-value of 1e-140.
_COMPARED = 32_768
_LEVELS = ("boolean", "string", "category")
_SHOWN = 10


def drift(
    valid: pl.LazyFrame,
    reference: pl.LazyFrame | None,
    pipeline: Pipeline,
    *,
    version: str | None = None,
    sample: RowSample | None = None,
) -> dict[str, Any]:
    """Compare the rows that the reference has not seen with the reference, column by column.

    A column has drifted when the p-value of its values or of its share of nulls, adjusted for the
    number of tests, is at most `false_discovery_rate`, and the effect at least `min_effect`. Under
    200 new rows nothing is said. Where over half of a snapshot's rows are new, all its rows are
    compared. Up to 32,768 rows a side are compared whole, else a sample of so many.

    Parameters
    ----------
    valid, reference : lazy frames of valid rows with `_etl_ml_row`; None where there is none
    version : the reference's version, for the report
    sample : of `valid`, where it is known already

    Returns
    -------
    dict
        What `drift_report.json` holds; see `ks`, `chi2` and `nulls` for the tests. A column whose
        values have not drifted and whose nulls have is reported by its nulls.

    References
    ----------
    Benjamini and Hochberg (1995), Controlling the false discovery rate, JRSS B 57.
    """
    report: dict[str, Any] = {"reference": version, "rows_compared": 0, "drifted": False}
    if reference is None:
        return report | {"verdict": "no reference yet: nothing to compare with", "columns": {}}
    sides = _sides(valid, reference, sample, growing=pipeline.grows)
    report["rows_compared"] = sides.rows_compared
    if sides.rows_compared < TOO_FEW:
        verdict = f"too few: {sides.rows_compared} new rows, {TOO_FEW} are needed"
        return report | {"verdict": verdict, "columns": {}}
    columns = dict(_compare(sides, pipeline))
    _judge(columns, pipeline)
    drifted = [name for name, column in columns.items() if column["drifted"]]
    verdict = f"{len(drifted)} of {len(columns)} columns have drifted"
    return report | {
        "drifted": bool(drifted),
        "verdict": verdict + (f": {', '.join(drifted)}" if drifted else ""),
        "rows_sampled": {"reference": sides.reference.height, "new": sides.fresh.height},
        "columns": columns,
        "not_compared": [name for name in pipeline.contract.columns if name not in columns],
    }


@dataclass(frozen=True)
class _Sides:
    reference: pl.DataFrame
    fresh: pl.DataFrame
    rows_compared: int


def _sides(
    valid: pl.LazyFrame, reference: pl.LazyFrame, sample: RowSample | None, *, growing: bool
) -> _Sides:
    """Samples of both sides, with one threshold: a row of both tables is in both or in none."""
    rows, others = _length(valid), _length(reference)
    ours = sample or sample_of(valid, rows)
    theirs = sample_of(reference, others, SIZE if others <= SIZE else _COMPARED)
    threshold = min(ours.threshold, theirs.threshold)
    here, known = ours.rows(threshold), theirs.rows(threshold)
    if here.is_empty() or known.is_empty():
        return _Sides(known, here, here.height)
    fresh = here.join(known.select(ROW), on=ROW, how="anti")
    many = 2 * fresh.height > here.height and not growing
    if not many and threshold < ALL:
        # Few of many: their number, and a sample of their own.
        new = valid.join(reference.select(ROW), on=ROW, how="anti")
        count = _length(new)
        many = 2 * count > rows and not growing
        fresh = sample_of(new, count).rows()
    else:
        count = fresh.height
    if many:
        fresh, count = ours.rows(), rows
    return _Sides(_compared(theirs.rows()), _compared(fresh), count)


def _compared(rows: pl.DataFrame) -> pl.DataFrame:
    sample = RowSample(_COMPARED)
    sample.add(rows)
    return sample.rows()


def _length(rows: pl.LazyFrame) -> int:
    import polars as pl

    return int(rows.select(pl.len()).collect(engine="streaming").item())


def _compare(sides: _Sides, pipeline: Pipeline) -> Iterator[tuple[str, dict[str, Any]]]:
    then, now = sides.reference, sides.fresh
    for name, column in pipeline.contract.columns.items():
        if name in pipeline.contract.primary_key or name not in then.columns:
            continue
        kinds = then.schema[name], now.schema[name]
        if kinds[0] != kinds[1] and not (kinds[0].is_numeric() and kinds[1].is_numeric()):
            continue  # the contract has changed: there is nothing to compare
        known, new = then[name], now[name]
        told: dict[str, Any] = {}
        if column.type in NUMBERS:
            test = ks(*(side.drop_nulls().cast(float).to_numpy() for side in (known, new)))
        elif column.type in _LEVELS:
            test, told = _levels(known, new, hidden=column.sensitive)
        else:
            continue
        empty = [(side.null_count(), side.len() - side.null_count()) for side in (known, new)]
        missing = nulls(*empty)
        shares = {
            side: count[0] / max(sum(count), 1)
            for side, count in zip(("reference", "new"), empty, strict=True)
        }
        yield name, _told(test) | told | {"nulls": shares | _told(missing)}


def _told(test: Test) -> dict[str, Any]:
    told: dict[str, Any] = {
        "test": test.name,
        "statistic": test.statistic,
        "p_value": test.p_value,
        "effect": test.effect,
    }
    return told | ({"wasserstein": test.wasserstein} if test.name == "ks" else {})


def _levels(known: pl.Series, new: pl.Series, *, hidden: bool) -> tuple[Test, dict[str, Any]]:
    """The test of the levels' counts, and the levels that are on one side only, frequent first."""
    both = (
        known.drop_nulls()
        .alias("level")
        .value_counts(name="known")
        .join(
            new.drop_nulls().alias("level").value_counts(name="new"),
            on="level",
            how="full",
            coalesce=True,
        )
        .fill_null(strategy="zero")
        .sort("level")
    )
    test = chi2(both["known"].to_list(), both["new"].to_list())
    if hidden:
        return test, {}
    found = {}
    for key, side, other in (("new_levels", "new", "known"), ("vanished_levels", "known", "new")):
        alone = both.filter(both[other] == 0).sort(side, descending=True, maintain_order=True)
        found[key] = [str(level)[:100] for level in alone["level"].head(_SHOWN)]
    return test, found


def _judge(columns: dict[str, dict[str, Any]], pipeline: Pipeline) -> None:
    """Adjust all p-values together, and say which columns have drifted."""
    from scipy import stats

    limits = pipeline.validation.drift
    tests = [test for column in columns.values() for test in (column, column["nulls"])]
    tests = [test for test in tests if test["statistic"] is not None or test["test"] != "nulls"]
    if not tests:
        return
    adjusted = stats.false_discovery_control([t["p_value"] for t in tests], method="bh")
    for test, p in zip(tests, adjusted, strict=True):
        test["p_adjusted"] = float(p)
        test["drifted"] = bool(
            p <= limits.false_discovery_rate and test["effect"] >= limits.min_effect
        )
    for column in columns.values():
        missing = column["nulls"]
        missing.setdefault("p_adjusted", missing["p_value"])
        missing.setdefault("drifted", False)
        if missing["drifted"] and not column["drifted"]:
            tested = ("test", "statistic", "p_value", "p_adjusted", "effect", "drifted")
            column.update({key: missing[key] for key in tested})
        del missing["test"]
