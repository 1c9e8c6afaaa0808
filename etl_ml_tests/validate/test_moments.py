"""Parts add up to the whole; nothing overflows."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.validate.distinct import Distinct
from etl_ml.validate.moments import Moments

NUMBERS = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_moments_of_parts_merge_to_those_of_the_whole(parts: list[list[float]]) -> None:
    merged = Moments()
    for part in parts:
        merged = merged.merge(Moments.of(pl.Series(part, dtype=pl.Float64)))
    numbers = [number for part in parts for number in part]
    assert merged.n == len(numbers)
    if not numbers:
        assert (merged.mean, merged.std) == (None, None)
        return
    exact = list(map(Fraction, numbers))
    assert merged.mean == pytest.approx(float(statistics.mean(exact)), rel=1e-9, abs=1e-6)
    if len(numbers) > 1:
        spread = math.sqrt(statistics.variance(exact))
        assert merged.std == pytest.approx(spread, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 1000])
def test_the_largest_floats_have_a_mean_and_a_deviation(n: int) -> None:
    values = pl.Series([1e308, -1e308, 1e308] * n)
    for found in (
        Moments.of(values),
        Moments.of(values[:n])
        .merge(Moments.of(values[n : 2 * n]))
        .merge(Moments.of(values[2 * n :])),
    ):
        assert found.mean == pytest.approx(1e308 / 3, rel=1e-9)
        assert found.std == pytest.approx(1e308 * np.std([1, -1, 1] * n, ddof=1), rel=1e-9)
    assert Moments.of(pl.Series([1.7e308, -1.7e308])).std == np.finfo(float).max


def test_a_small_spread_far_from_zero_is_kept() -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=10_000) * 1e-3
    merged = Moments()
    for part in np.split(values, 20):
        merged = merged.merge(Moments.of(pl.Series(part)))
    assert merged.std == pytest.approx(values.std(ddof=1), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.text(max_size=5), max_size=50), max_size=4))
def test_few_values_are_counted_exactly_in_any_parts(parts: list[list[str]]) -> None:
    merged = Distinct()
    for part in parts:
        one = Distinct()
        frame = pl.DataFrame({"x": pl.Series(part, dtype=pl.String)})
        one.add(frame.select(one.query("x"))["x"][0])
        merged.merge(one)
    assert merged.estimate == len({text for part in parts for text in part})


@pytest.mark.parametrize("true", [3000, 100_000, 1_000_000])
@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64, pl.String])
def test_many_values_are_estimated_within_four_standard_errors(
    true: int, kind: pl.DataType
) -> None:
    values = pl.Series("x", range(true)).cast(kind).to_frame()
    whole, parts = Distinct(), Distinct()
    for start in range(0, true, true // 4):
        batch = values[start : start + true // 2]  # overlapping
        whole.add(batch.select(whole.query("x"))["x"][0])
        one = Distinct()
        one.add(batch.select(one.query("x"))["x"][0])
        parts.merge(one)
    assert whole.estimate == parts.estimate == pytest.approx(true, rel=4 * 0.022)
