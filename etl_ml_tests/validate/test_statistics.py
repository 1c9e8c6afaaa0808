"""Each statistic against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from etl_ml.validate.statistics import chi2, ks, nulls

SAMPLES = st.lists(st.integers(-5, 5).map(float) | st.floats(-1e9, 1e9), min_size=2, max_size=60)


@settings(max_examples=200, deadline=None)
@given(SAMPLES, SAMPLES)
def test_distances_of_numbers_are_those_of_scipy(known: list[float], new: list[float]) -> None:
    found = ks(np.array(known), np.array(new))
    test = stats.ks_2samp(known, new, method="asymp")
    assert found.statistic == pytest.approx(test.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(test.pvalue, rel=1e-9)
    if np.std(known) > 1e-6:
        area = stats.wasserstein_distance(known, new) / np.std(known)
        assert found.wasserstein == pytest.approx(area, rel=1e-9, abs=1e-9)


def test_numbers_of_great_samples_are_those_of_scipy() -> None:
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.01, 0.2, 3.0):
        known, new = rng.normal(size=20_000), rng.normal(shift, 1, 15_000)
        found, test = ks(known, new), stats.ks_2samp(known, new, method="asymp")
        assert found.effect == pytest.approx(test.statistic, rel=1e-12)
        assert found.p_value == pytest.approx(test.pvalue, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(40, 500), st.integers(40, 500)), min_size=2, max_size=8))
def test_counts_of_frequent_levels_are_tested_as_scipy_does(pairs: list[tuple[int, int]]) -> None:
    known, new = zip(*pairs, strict=True)
    found = chi2(known, new)
    test = stats.chi2_contingency([known, new], correction=False)
    assert found.statistic == pytest.approx(test.statistic, rel=1e-9, abs=1e-9)
    assert found.p_value == pytest.approx(test.pvalue, rel=1e-9)
    assert 0 <= found.effect <= 1


def test_rare_levels_are_pooled() -> None:
    known, new = [500, 480, *[1] * 20], [250, 240, *[0] * 10, *[1] * 10]
    test = stats.chi2_contingency([[500, 480, 20], [250, 240, 10]], correction=False)
    assert chi2(known, new).statistic == pytest.approx(test.statistic)


def test_the_effect_of_undrifted_levels_is_near_nothing() -> None:
    rng = np.random.default_rng(6)
    for levels in (2, 30, 1000):
        effects = []
        for _ in range(30):
            known, new = (
                np.bincount(rng.integers(0, levels, 2000), minlength=levels) for _ in "ab"
            )
            effects.append(chi2(known, new).effect)
        assert np.mean(effects) < 0.02
        assert max(effects) < 0.06


def test_the_effect_of_a_real_change_is_the_total_variation() -> None:
    assert chi2([50_000, 50_000], [80_000, 20_000]).effect == pytest.approx(0.3, abs=0.005)


@pytest.mark.parametrize(
    ("known", "new"), [((0, 10), (0, 500)), ((5, 0), (9, 0)), ((0, 0), (1, 9))]
)
def test_nulls_that_are_nowhere_or_everywhere_are_not_tested(
    known: tuple[int, int], new: tuple[int, int]
) -> None:
    found = nulls(known, new)
    assert (found.statistic, found.p_value, found.effect) == (None, 1.0, 0.0)
