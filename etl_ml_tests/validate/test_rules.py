"""The rules are the same on every dataframe engine."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import narwhals as nw
import pandas as pd
import polars as pl
import pytest

from etl_ml.spec import Column
from etl_ml.validate.rules import ORDER, rules_of

COLUMNS: list[tuple[dict[str, Any], list[Any]]] = [
    ({"type": "integer", "min": 2, "max": 4, "allowed": [2, 3, 9]}, [1, 2, 3, 4, 9, None, None]),
    ({"type": "float", "min": 0, "allowed": [0, 0.5, -1]}, [0.0, 0.5, -1.0, 2.0, None, 0.0, None]),
    (
        {"type": "string", "allowed": ["ab", "Q", "abc"], "pattern": "^[a-z]+$", "max_length": 2},
        ["ab", "Q", "abc", "z", None, "ab", None],
    ),
    ({"type": "boolean", "allowed": [True]}, [True, False, None, True, True, True, None]),
    (
        {"type": "datetime", "min": "2020-01-02", "max": "2020-01-03"},
        [
            *(datetime(2020, 1, d, tzinfo=UTC) for d in (1, 2, 3, 4)),
            None,
            datetime(2020, 1, 3, 1, tzinfo=UTC),
            None,
        ],
    ),
]


def outcomes(frame: Any, column: Column) -> dict[str, list[bool]]:
    rules = list(rules_of("x", column, value="v", present="p", required=True, repeated="r"))
    assert [rule.name for rule in rules] == [
        name for name in ORDER if name in {r.name for r in rules}
    ]
    found = nw.from_native(frame).with_columns(*(rule.broken.alias(rule.flag) for rule in rules))
    return {rule.reason: [bool(v) for v in found[rule.flag].to_list()] for rule in rules}


@pytest.mark.parametrize(
    ("rules", "values"), COLUMNS, ids=lambda v: v["type"] if isinstance(v, dict) else ""
)
@pytest.mark.parametrize("engine", ["numpy", "nullable", "pyarrow"])
def test_pandas_and_polars_break_the_same_rules(
    rules: dict[str, Any], values: list[Any], engine: str
) -> None:
    column = Column(**rules)
    there = [True, True, True, True, True, True, False]
    repeated = [True, False] * 3 + [False]
    frame = pl.DataFrame({"v": values, "p": there, "r": repeated})
    expected = outcomes(frame, column)
    assert any(any(flags) for flags in expected.values())
    for row in zip(*expected.values(), strict=True):
        assert sum(row) <= 1
    if engine == "pyarrow":
        pandas = frame.to_pandas(use_pyarrow_extension_array=True)
    else:
        pandas = pd.DataFrame({"v": values, "p": there, "r": repeated})
        pandas = pandas.convert_dtypes() if engine == "nullable" else pandas
    assert outcomes(pandas, column) == expected


def test_a_date_column_holds_its_limits_on_polars() -> None:
    column = Column(type="date", min="2020-01-02")
    frame = pl.DataFrame(
        {"v": [date(2020, 1, 1), date(2020, 1, 2)], "p": [True] * 2, "r": [False] * 2}
    )
    assert outcomes(frame, column)["x: min"] == [True, False]
