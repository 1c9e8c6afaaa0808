"""The sample depends on the rows alone."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.validate.sample import ALL, RowSample, sample_of


def table(n: int, first: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "x": np.arange(first, first + n),
            "_etl_ml_row": [f"{i:032x}-0" for i in range(first, first + n)],
        }
    )


def drawn(sample: RowSample) -> list[int]:
    return sorted(sample.rows()["x"].to_list())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.lists(st.integers(0, 3000), max_size=4), st.integers(1, 500))
def test_neither_order_nor_batches_nor_parts_change_the_sample(
    rows: int, cuts: list[int], size: int
) -> None:
    whole = RowSample(size)
    whole.add(table(rows))
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    batches = [table(rows)[a:b] for a, b in itertools.pairwise(edges)]
    shuffled, merged = RowSample(size), RowSample(size)
    for batch in reversed(batches):
        shuffled.add(batch)
        part = RowSample(size)
        part.add(batch)
        merged.merge(part)
    assert drawn(shuffled) == drawn(merged) == drawn(whole)
    assert shuffled.threshold == merged.threshold == whole.threshold
    assert len(drawn(whole)) == min(rows, size)


def test_up_to_its_size_it_is_all_of_the_rows() -> None:
    sample = RowSample(1000)
    sample.add(table(1000))
    assert (drawn(sample), sample.threshold) == (list(range(1000)), ALL)


def test_it_is_uniform() -> None:
    for first in (0, 10**6, 7 * 10**8):
        sample = RowSample(4000)
        for batch in range(10):
            sample.add(table(20_000, first + batch * 20_000))
        counts = np.histogram(np.array(drawn(sample)) - first, bins=20, range=(0, 200_000))[0]
        # Chi-square with 19 degrees of freedom: above 43.8 once in a thousand times.
        assert (((counts - 200) ** 2) / 200).sum() < 43.8


def test_what_is_new_can_be_told_from_two_samples() -> None:
    old = sample_of(table(300_000).lazy(), 300_000, size=20_000)
    new = sample_of(table(300_000, 200_000).lazy(), 300_000, size=20_000)
    threshold = min(old.threshold, new.threshold)
    known = set(old.rows(threshold)["x"])
    here = set(new.rows(threshold)["x"])
    assert {x for x in here if x < 300_000} == {x for x in known if x >= 200_000}
    assert len(here - known) / len(here) == pytest.approx(2 / 3, abs=0.02)


def test_long_text_is_cut_and_still_told_apart() -> None:
    sample = RowSample()
    texts = ["a" * 10_000 + str(i % 3) for i in range(30)]
    sample.add(table(30).with_columns(t=pl.Series(texts)))
    kept = sample.rows()["t"]
    assert kept.n_unique() == 3
    assert kept.str.len_chars().max() < 200  # type: ignore[operator]
