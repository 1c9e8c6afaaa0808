"""JSON that every reader can read."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NoReturn

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etl_ml.lake.documents import dump_json


def no_constant(name: str) -> NoReturn:
    raise AssertionError(name)


def load(data: bytes) -> Any:
    return json.loads(data.decode("utf-8"), parse_constant=no_constant)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\u00e9"), inner, max_size=4)
    ),
    max_leaves=12,
)


def expected(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: expected(item) for key, item in value.items()}
    return [expected(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_json_has_no_nan_and_everything_else_comes_back(value: Any) -> None:
    assert load(dump_json(value)) == expected(value)


def test_keys_keep_the_order_they_were_given_in() -> None:
    assert list(load(dump_json({"b": 1, "a": {"z": 1, "y": 2}}))) == ["b", "a"]
    assert dump_json({"b": 1, "a": 2}) != dump_json({"a": 2, "b": 1})
    assert dump_json({"é": 1}) == '{\n  "é": 1\n}\n'.encode()


def test_what_json_has_no_word_for_is_null_or_text() -> None:
    told = {
        "array": np.array([1.5, np.nan, np.inf]), "number": np.int64(3), "flag": np.bool_(True),
        "date": date(2024, 1, 2), "moment": datetime(2024, 1, 2, tzinfo=UTC), "time": time(1, 2),
        "decimal": Decimal("1.50"), "span": timedelta(seconds=1), "bytes": b"\xff\x00", 7: (1, 2),
    }  # fmt: skip
    assert load(dump_json(told)) == {
        "array": [1.5, None, None], "number": 3, "flag": True,
        "date": "2024-01-02", "moment": "2024-01-02T00:00:00+00:00", "time": "01:02:00",
        "decimal": "1.50", "span": "0:00:01", "bytes": "ff00", "7": [1, 2],
    }  # fmt: skip
