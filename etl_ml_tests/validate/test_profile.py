"""Counts and statistics, against numpy and pandas."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.lake.documents import dump_json
from etl_ml.spec import Column
from etl_ml.validate.histogram import histogram
from etl_ml.validate.profile import profile


def test_numbers_are_those_of_pandas_and_numpy() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(5, 2, 2001)
    series = pd.Series(values).where(rng.random(2001) > 0.1)
    frame = pl.DataFrame({"x": pl.Series(series.to_numpy()).fill_nan(None)})
    found = profile(frame.lazy(), {"x": Column(type="float")}).report()
    told = found["columns"]["x"]
    assert found["rows"] == 2001
    assert (told["count"], told["nulls"]) == (series.count(), series.isna().sum())
    for key in ("min", "max", "mean", "std"):
        assert told[key] == pytest.approx(getattr(series, key)(), rel=1e-12)
    for key, value in told["quantiles"].items():
        assert value == pytest.approx(np.quantile(series.dropna(), float(key)), rel=1e-12)
    assert list(told["quantiles"]) == ["0.05", "0.25", "0.5", "0.75", "0.95"]
    assert told["distinct"] == pytest.approx(series.nunique(), rel=0.15)


def test_the_most_frequent_texts_are_those_of_pandas() -> None:
    rng = np.random.default_rng(4)
    values = pd.Series(rng.choice(list("abcdefghijklmnop"), 500, p=np.arange(1, 17) / 136))
    told = profile(pl.LazyFrame({"x": values.tolist()}), {"x": Column(type="string")}).report()[
        "columns"
    ]["x"]
    counts = values.value_counts()
    assert [t["count"] for t in told["top"]] == counts.head(10).tolist()
    assert all(counts[t["value"]] == t["count"] for t in told["top"])


def test_an_empty_and_a_null_column_have_a_profile() -> None:
    frame = pl.LazyFrame({"x": pl.Series([None, None], dtype=pl.Float64)})
    for rows, n in ((frame, 2), (frame.head(0), 0)):
        told = profile(rows, {"x": Column(type="float")}).report()["columns"]["x"]
        assert (told["count"], told["nulls"], told["mean"], told["min"]) == (0, n, None, None)


def test_a_sensitive_column_has_counts_only() -> None:
    column = Column(type="integer", sensitive=True, allowed=(1, 2))
    told = profile(pl.LazyFrame({"x": [1, 2, None]}), {"x": column}).report()["columns"]["x"]
    assert told == {"type": "integer", "count": 2, "nulls": 1, "distinct": 2}


def columns_of(**kinds: str) -> dict[str, Column | None]:
    return {name: Column(type=kind) for name, kind in kinds.items()}  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_profiles_of_parts_merge_to_the_profile_of_the_whole(
    sizes: list[int], random: random.Random
) -> None:
    n = sum(sizes)
    frame = pl.DataFrame(
        {
            "x": [random.choice([None, 1.5, -2.0, random.randint(-99, 99) / 8]) for _ in range(n)],
            "k": [random.choice([None, "a", "b", "c"]) for _ in range(n)],
            "_etl_ml_row": [f"{i:032x}-0" for i in range(n)],
        },
        schema={"x": pl.Float64, "k": pl.String, "_etl_ml_row": pl.String},
    )
    columns = columns_of(x="float", k="string")
    whole = profile(frame.lazy(), columns).report()
    merged, start = profile(frame.head(0).lazy(), columns), 0
    for size in sizes:
        merged.merge(profile(frame.slice(start, size).lazy(), columns))
        start += size
    told = merged.report()
    for name in ("x", "k"):
        for key, value in whole["columns"][name].items():
            if key in ("mean", "std") and value is not None:
                assert told["columns"][name][key] == pytest.approx(value, rel=1e-9, abs=1e-9)
            else:
                assert told["columns"][name][key] == value, key
    assert (told["rows"], told["sampled_rows"]) == (n, n)


def test_quantiles_of_a_great_table_are_off_by_half_a_percent_of_the_rank_at_most() -> None:
    rng = np.random.default_rng(8)
    n = 600_000
    values = {"x": rng.lognormal(0, 3, n), "y": rng.integers(0, 10, n).astype(float) ** 9}
    rows = pl.Series([f"{i:032x}-0" for i in range(n)])
    frame = pl.LazyFrame({**values, "_etl_ml_row": rows})
    told = profile(frame, columns_of(x="float", y="float")).report()
    assert told["rows"] == n
    assert 130_000 < told["sampled_rows"] < 132_000
    for name, column in values.items():
        for q, value in told["columns"][name]["quantiles"].items():
            below, upto = (column < value).mean(), (column <= value).mean()
            assert below - 0.005 <= float(q) <= upto + 0.005


def test_a_histogram_counts_every_number_once() -> None:
    rng = np.random.default_rng(9)
    for values in (
        rng.normal(size=5000),
        rng.integers(0, 3, 5000),
        np.r_[rng.normal(size=999), 1e308],
        np.array([1e308, -1e308] * 300),
        np.full(10, 7.5),
        np.full(10, 1e-310),
        np.zeros(10),
        1e15 + rng.random(300),
        np.array([-(2**63), 2**63 - 1] * 20),
    ):
        told = histogram(np.sort(values.astype(float)), whole=values.dtype.kind == "i")
        assert told is not None
        edges, counts = np.array(told["edges"]), told["counts"]
        assert len(edges) == len(counts) + 1 <= 60
        assert (np.diff(edges) > 0).all()
        assert sum(counts) + told["below"] + told["above"] == len(values)
        for low, high, count in zip(edges, edges[1:], counts, strict=False):
            assert count == ((values.astype(float) >= low) & (values.astype(float) < high)).sum()


@pytest.mark.parametrize(
    "values",
    [
        [None] * 40,
        [1e308, -1e308] * 20,
        [0.0, -0.0] * 20,
        [math.nan, None, 1.0] * 20,
        [5e-324] * 40,
    ],
)
def test_the_profile_of_extreme_numbers_is_plain_json(values: list[float | None]) -> None:
    frame = pl.LazyFrame({"x": pl.Series(values, dtype=pl.Float64)})
    report = profile(frame, columns_of(x="float")).report()
    json.loads(dump_json(report), parse_constant=pytest.fail)
    numbers = [v for v in values if v is not None and v == v]
    told = report["columns"]["x"]
    assert (told["count"], told["nulls"]) == (len(numbers), len(values) - len(numbers))
    assert told["distinct"] == len(set(numbers))


@pytest.mark.parametrize(
    "values", [["😀", "a\x00b", "x" * 1_000_000, ""] * 30, ["é", "e\u0301"] * 50]
)
def test_the_profile_of_odd_text_counts_exactly(values: list[str]) -> None:
    told = profile(pl.LazyFrame({"x": values}), columns_of(x="string")).report()["columns"]["x"]
    assert (told["count"], told["distinct"]) == (len(values), len(set(values)))
    assert sum(t["count"] for t in told["top"]) == len(values)
    assert len(dump_json(told)) < 2000
