"""Drift: found where there is some, and not where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from etl_ml.spec import Pipeline
from etl_ml.validate import drift
from etl_ml_tests.conftest import make_pipeline


def pipeline_of(**columns: str) -> Pipeline:
    contract = {name: {"type": kind} for name, kind in columns.items()} | {
        "defaulted": {"type": "integer"}
    }
    return make_pipeline(contract={"columns": contract})


def frame(prefix: str, **columns: Any) -> pl.LazyFrame:
    n = len(next(iter(columns.values())))
    data = {name: pl.Series(values, strict=False) for name, values in columns.items()}
    rows = [f"{prefix}{i}" for i in range(n)]
    return pl.LazyFrame({**data, "defaulted": [i % 2 for i in range(n)], "_etl_ml_row": rows})


def test_numbers_are_tested_as_scipy_does() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=900), rng.normal(0.2, 1, 500)
    report = drift(
        frame("n", x=new), frame("o", x=old), pipeline_of(x="float"), version="0000000007"
    )
    told, test = report["columns"]["x"], stats.ks_2samp(old, new, method="asymp")
    assert told["statistic"] == told["effect"] == pytest.approx(test.statistic, rel=1e-12)
    assert told["p_value"] == pytest.approx(test.pvalue, rel=1e-9)
    assert told["wasserstein"] == pytest.approx(stats.wasserstein_distance(old, new) / old.std())
    assert (report["reference"], report["rows_compared"]) == ("0000000007", 500)


def test_levels_are_tested_as_scipy_does() -> None:
    old, new = ["a"] * 500 + ["b"] * 300 + ["c"] * 200, ["a"] * 200 + ["b"] * 200 + ["c"] * 100
    told = drift(frame("n", x=new), frame("o", x=old), pipeline_of(x="category"))["columns"]["x"]
    test = stats.chi2_contingency([[500, 300, 200], [200, 200, 100]], correction=False)
    assert told["statistic"] == pytest.approx(test.statistic)
    assert told["p_value"] == pytest.approx(test.pvalue)
    variation = 0.5 * (abs(0.5 - 0.4) + abs(0.3 - 0.4) + abs(0.2 - 0.2))
    shares = np.array([700, 500, 300]) / 1500
    expected = 0.5 * np.sqrt(2 / np.pi * shares * (1 - shares) * (1 / 1000 + 1 / 500)).sum()
    assert told["effect"] == pytest.approx(variation - expected)


def adjusted(p: list[float]) -> list[float]:
    """Benjamini and Hochberg (1995), step by step from the largest."""
    found, least = [0.0] * len(p), 1.0
    for rank, i in sorted(enumerate(sorted(range(len(p)), key=p.__getitem__), 1), reverse=True):
        least = min(least, p[i] * len(p) / rank)
        found[i] = least
    return found


def test_p_values_are_adjusted_for_the_number_of_columns() -> None:
    rng = np.random.default_rng(1)
    old = {f"x{i}": rng.normal(size=600) for i in range(12)}
    new = {f"x{i}": rng.normal(0.03 * i, 1, 600) for i in range(12)}
    report = drift(frame("n", **new), frame("o", **old), pipeline_of(**dict.fromkeys(old, "float")))
    told = list(report["columns"].values())
    assert [t["p_adjusted"] for t in told] == pytest.approx(adjusted([t["p_value"] for t in told]))
    assert all(t["nulls"]["p_value"] == t["nulls"]["p_adjusted"] == 1.0 for t in told)
    for test in told:
        assert test["drifted"] == (test["p_adjusted"] <= 0.05 and test["effect"] >= 0.1)
    assert report["drifted"] is any(t["drifted"] for t in told)


def test_thirty_undrifted_columns_raise_no_more_alarms_than_were_asked_for() -> None:
    pipeline = pipeline_of(**{f"x{i}": ("float", "integer", "category")[i % 3] for i in range(30)})

    def sample(rng: np.random.Generator, prefix: str, n: int) -> pl.LazyFrame:
        kinds = (rng.normal, rng.poisson, rng.choice)
        arguments: tuple[Any, ...] = ({}, {"lam": 3}, {"a": list("abcd")})
        return frame(
            prefix, **{f"x{i}": kinds[i % 3](size=n, **arguments[i % 3]) for i in range(30)}
        )

    def alarms(n: int, runs: int) -> int:
        rngs = map(np.random.default_rng, range(runs))
        return sum(
            drift(sample(r, "n", n), sample(r, "o", 1500), pipeline)["drifted"] for r in rngs
        )

    assert alarms(400, 40) <= 0.05 * 40
    assert alarms(1000, 12) == 0


def test_a_thousand_undrifted_levels_raise_no_alarm() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        old, new = (rng.integers(0, 1000, 2000).astype(str) for _ in range(2))
        report = drift(frame("n", x=new), frame("o", x=old), pipeline_of(x="string"))
        assert report["columns"]["x"]["effect"] < 0.1
        assert not report["drifted"]


def test_a_shift_of_half_a_standard_deviation_is_found() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        columns = {f"x{i}": rng.normal(size=2000) for i in range(10)}
        moved = {name: rng.normal(0.5 * (name == "x4"), 1, 500) for name in columns}
        pipeline = pipeline_of(**dict.fromkeys(columns, "float"))
        report = drift(frame("n", **moved), frame("o", **columns), pipeline)
        assert [name for name, test in report["columns"].items() if test["drifted"]] == ["x4"]
        assert "x4" in report["verdict"]


def test_a_new_level_is_found() -> None:
    report = drift(
        frame("n", x=["a"] * 200 + ["new"] * 100),
        frame("o", x=["a"] * 900),
        pipeline_of(x="string"),
    )
    assert report["columns"]["x"]["drifted"]


def test_too_few_new_rows_are_said_and_are_not_drift() -> None:
    report = drift(frame("n", x=[9.0] * 199), frame("o", x=[0.0] * 900), pipeline_of(x="float"))
    assert (report["rows_compared"], report["drifted"], report["columns"]) == (199, False, {})
    assert "too few: 199 new rows, 200" in report["verdict"]
    assert drift(frame("n", x=[9.0] * 200), frame("o", x=[0.0] * 900), pipeline_of(x="float"))[
        "drifted"
    ]


def test_without_a_reference_nothing_is_compared() -> None:
    report = drift(frame("n", x=[1.0] * 900), None, pipeline_of(x="float"))
    assert (report["reference"], report["drifted"], report["rows_compared"]) == (None, False, 0)


def test_only_rows_that_the_reference_has_not_seen_are_compared() -> None:
    old, new = frame("o", x=np.zeros(4000)), frame("n", x=np.full(300, 2.0))
    report = drift(pl.concat([old, new]), old, pipeline_of(x="float"))
    assert report["rows_compared"] == 300
    assert report["columns"]["x"]["effect"] == 1.0
    assert report["drifted"]
    assert drift(old, old, pipeline_of(x="float"))["rows_compared"] == 0


def test_where_over_half_of_the_rows_are_new_all_are_compared() -> None:
    old = frame("o", x=np.zeros(400))
    for new, compared in ((401, 801), (400, 400)):
        rows = pl.concat([old, frame("n", x=np.zeros(new))])
        assert drift(rows, old, pipeline_of(x="float"))["rows_compared"] == compared


def test_a_column_whose_type_or_presence_changed_is_not_compared() -> None:
    pipeline = pipeline_of(x="integer", y="float", z="float", w="category")
    old = frame("o", x=["a"] * 300, y=np.arange(300), w=[True] * 300)
    new = frame("n", x=[1] * 300, y=np.arange(300.0), z=[0.5] * 300, w=["b"] * 300)
    report = drift(new, old, pipeline)
    assert set(report["columns"]) == {"y", "defaulted"}
    assert report["not_compared"] == ["x", "z", "w"]


def test_a_column_that_lost_its_values_has_drifted_by_its_nulls() -> None:
    nothing = pl.Series([None] * 300, dtype=pl.Float64)
    report = drift(frame("n", x=nothing), frame("o", x=[1.0] * 300), pipeline_of(x="float"))
    told = report["columns"]["x"]
    assert (told["test"], told["drifted"]) == ("nulls", True)
    assert (told["nulls"]["reference"], told["nulls"]["new"]) == (0.0, 1.0)
    both = drift(frame("n", x=nothing), frame("o", x=nothing), pipeline_of(x="float"))
    assert not both["drifted"]
    assert both["columns"]["x"]["p_value"] == 1.0


def test_the_share_of_nulls_is_tested_as_scipy_does() -> None:
    rng = np.random.default_rng(2)
    old, new = rng.normal(size=1000), rng.normal(size=500)
    old[:50], new[:200] = np.nan, np.nan
    sides = [pl.Series(side).fill_nan(None) for side in (new, old)]
    told = drift(frame("n", x=sides[0]), frame("o", x=sides[1]), pipeline_of(x="float"))
    column = told["columns"]["x"]
    test = stats.chi2_contingency([[50, 950], [200, 300]], correction=False)
    assert (column["test"], column["drifted"]) == ("nulls", True)
    assert column["statistic"] == pytest.approx(test.statistic, rel=1e-9)
    assert column["p_value"] == pytest.approx(test.pvalue, rel=1e-9)
    assert 0.3 < column["effect"] < 0.35
    assert column["nulls"]["p_adjusted"] >= column["p_value"]


@pytest.mark.parametrize(("share", "compared"), [(0.01, 2000), (0.4, 80_000), (0.7, 200_000)])
def test_new_rows_of_great_tables_are_counted_exactly(share: float, compared: int) -> None:
    n = 200_000
    rng = np.random.default_rng(7)
    new = int(n * share)
    ids = np.r_[np.arange(new, n), np.arange(n, n + new)]
    old = pl.LazyFrame({"x": rng.normal(size=n), "_etl_ml_row": np.arange(n).astype(str)})
    shifted = np.r_[rng.normal(size=n - new), rng.normal(1, 1, new)]
    now = pl.LazyFrame({"x": shifted, "_etl_ml_row": ids.astype(str)})
    pipeline = pipeline_of(x="float")
    report = drift(now, old, pipeline)
    assert report["rows_compared"] == compared
    assert report["columns"]["x"]["drifted"]
    assert report["rows_sampled"]["new"] <= 40_000
    again = drift(now.reverse(), old.reverse(), pipeline)
    assert again == report
