from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import polars as pl
import pytest

from etl_ml.transform.function import FeatureFunctionError, call_function

Make = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture
def named() -> Iterator[Callable[[Make], str]]:
    """Puts a function where it is found by name."""
    module = types.ModuleType("functions_of_a_test")

    def put(function: Make) -> str:
        module.made = function  # type: ignore[attr-defined]
        return "functions_of_a_test:made"

    sys.modules[module.__name__] = module
    yield put
    del sys.modules[module.__name__]


def rows(count: int = 300) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    holes = [None if place in (40, 41, 250) else float(place % 17) for place in range(count)]
    return pl.DataFrame(
        {
            "a": draw.normal(size=count),
            "c": draw.choice(["u", "v", "w"], count),
            "m": pl.Series(holes[:count], dtype=pl.Float64),
        }
    )


ACROSS_ROWS: dict[str, Make] = {
    "shift": lambda x: x.assign(z=x.a.shift(1)),
    "cumsum": lambda x: x.assign(z=x.a.cumsum()),
    "cumcount": lambda x: x.assign(z=x.groupby("c").cumcount()),
    "ffill": lambda x: x.assign(m=x.m.ffill()),
    "rolling": lambda x: x.assign(z=x.a.rolling(3).mean()),
    "arange": lambda x: x.assign(z=np.arange(len(x))),
    "index": lambda x: x.assign(z=x.index),
    "first": lambda x: x.assign(z=x.a == x.a.iloc[0]),
    "last": lambda x: x.assign(z=x.a - x.a.iloc[-1]),
    "duplicated": lambda x: x.assign(z=x.duplicated(["c"])),
    "duplicated, all": lambda x: x.assign(z=x.c.duplicated(keep=False)),
    "median": lambda x: x.assign(m=x.m.fillna(x.m.median())),
    "mean": lambda x: x.assign(z=x.a - x.a.mean()),
    "rank": lambda x: x.assign(z=x.a.rank()),
    "length": lambda x: x.assign(z=len(x)),
    "codes": lambda x: x.assign(z=x.c.astype("category").cat.codes),
}
ROW_BY_ROW: dict[str, Make] = {
    "ratio": lambda x: x.assign(z=x.a / (1 + x.a.abs())),
    "text": lambda x: x.assign(z=x.c + "!", n=x.c.str.len()),
    "constant for null": lambda x: x.assign(m=x.m.fillna(0.0), there=x.m.notna()),
    "where": lambda x: x.assign(z=np.where(x.a > 0, x.a, np.nan)),
    "several": lambda x: x[["a", "m"]].apply(lambda row: row * 2, axis=1),
}


@pytest.mark.parametrize("kind", ACROSS_ROWS)
def test_a_function_that_looks_at_other_rows_is_refused(
    kind: str, named: Callable[[Make], str]
) -> None:
    with pytest.raises(FeatureFunctionError, match="does not work row by row"):
        call_function(named(ACROSS_ROWS[kind]), rows(), check=True)


@pytest.mark.parametrize("kind", ROW_BY_ROW)
@pytest.mark.parametrize("count", [1, 5, 300])
def test_a_function_of_each_row_is_taken(
    kind: str, count: int, named: Callable[[Make], str]
) -> None:
    found = call_function(named(ROW_BY_ROW[kind]), rows().head(count), check=True)
    assert len(found) == count


def test_infinite_values_are_the_functions_fault_and_told_as_that(
    named: Callable[[Make], str],
) -> None:
    name = named(lambda x: x.assign(z=1 / (x.m - 3)))
    with pytest.raises(FeatureFunctionError, match="infinite values in column 'z'") as caught:
        call_function(name, rows())
    assert name in str(caught.value)
    assert "return NaN" in (caught.value.fix or "")
