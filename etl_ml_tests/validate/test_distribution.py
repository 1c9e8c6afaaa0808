"""What a model knows of its rows' distribution is enough to measure a distance to others."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from etl_ml.spec import Column
from etl_ml.validate.distribution import distance, of_levels, of_numbers, places
from etl_ml.validate.profile import profile

NUMBERS = st.lists(st.integers(-9, 9).map(float) | st.floats(-1e9, 1e9), min_size=1, max_size=400)


def distance_of(known: list[float], new: list[float]) -> float:
    found = of_numbers(np.sort(known))
    assert found is not None
    assert len(found["values"]) <= 100
    where = places(np.array(found["values"]), np.array(new))
    return distance(found, np.bincount(where, minlength=2 * len(found["values"]) + 1))


@pytest.mark.filterwarnings("ignore:divide by zero")  # scipy, of a handful of numbers
@settings(max_examples=300, deadline=None)
@given(NUMBERS, NUMBERS)
def test_the_distance_is_the_true_one_or_up_to_a_hundredth_less(
    known: list[float], new: list[float]
) -> None:
    found = distance_of(known, new)
    true = float(stats.ks_2samp(known, new, method="asymp").statistic)
    if len(set(known)) <= 100:
        assert found == pytest.approx(true, abs=1e-12)
    assert true - 0.01 - 1e-12 <= found <= true + 1e-12


def test_the_distance_of_great_samples_is_close() -> None:
    rng = np.random.default_rng(1)
    known = np.where(rng.random(100_000) < 0.4, 0.0, rng.lognormal(0, 2, 100_000))
    for new in (known[:900], known[:900] * 1.5, -known[:900], np.zeros(50), rng.normal(size=900)):
        true = float(stats.ks_2samp(known, new, method="asymp").statistic)
        assert true - 0.01 <= distance_of(known.tolist(), new.tolist()) <= true + 1e-12


def test_points_hold_equal_shares_however_skewed_the_numbers_are() -> None:
    numbers = np.sort(np.random.default_rng(0).lognormal(0, 3, 50_000))
    found = of_numbers(numbers)
    assert found is not None
    assert len(found["values"]) == 100
    assert np.diff(found["at_most"], prepend=0).tolist() == [500] * 100
    assert found["values"][-1] == numbers[-1]


def test_levels_are_counted_frequent_first_and_the_rare_ones_together() -> None:
    values = ["a"] * 50 + ["b"] * 70 + ["c"] * 4 + ["d" * 101] * 9
    assert of_levels(pl.Series(values)) == {
        "levels": ["b", "a"],
        "counts": [70, 50],
        "others": 13,
    }
    assert of_levels(pl.Series([True] * 9 + [False] * 6)) == {
        "levels": [True, False],
        "counts": [9, 6],
        "others": 0,
    }
    many = of_levels(pl.Series([str(i % 300) for i in range(30_000)]))
    assert many is not None
    assert (len(many["levels"]), many["others"]) == (100, 20_000)


def test_of_nothing_there_is_no_distribution() -> None:
    assert of_numbers(np.array([])) is None
    assert of_levels(pl.Series([], dtype=pl.String)) is None


def test_a_profile_has_it_of_what_drift_is_looked_for_in() -> None:
    rows = pl.LazyFrame({"n": [1, 2, 2], "s": ["a"] * 3, "secret": [1, 2, 3], "d": ["x"] * 3})
    rows = rows.with_columns(d=pl.date(2026, 1, 1))
    columns = {
        "n": Column(type="integer"),
        "s": Column(type="category"),
        "secret": Column(type="integer", sensitive=True),
        "d": Column(type="date"),
    }
    told = profile(rows, columns).report()["columns"]
    assert told["n"]["distribution"] == {
        "values": [1.0, 2.0],
        "below": [0, 1],
        "at_most": [1, 3],
    }
    assert told["s"]["distribution"] == {"levels": [], "counts": [], "others": 3}
    assert "distribution" not in told["secret"]
    assert "distribution" not in told["d"]
