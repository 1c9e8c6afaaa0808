"""Counts and statistics, against numpy and pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from etl_ml.spec import Column
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
