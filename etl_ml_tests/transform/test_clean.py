from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl_ml.spec.contract import Column
from etl_ml.spec.transformation import Cleaning as CleaningSpec
from etl_ml.spec.transformation import Outliers
from etl_ml.transform import Cleaning, clean
from etl_ml_tests.transform.frames import ROW

ROWS = pl.DataFrame(
    {
        ROW: ["c", "a", "e", "b", "d", "f"],
        "x": [1.5, 1.5, None, None, 1.5, 2.0],
        "name": ["é", "é", None, None, None, "z"],
        "day": [date(2026, 1, 2)] * 2 + [None] * 2 + [date(2026, 1, 2)] * 2,
    }
)
"""c and a are equal, e and b are equal and all null, d and f stand alone."""


def cleaned(rows: pl.DataFrame, **settings: Any) -> Cleaning:
    return clean(rows.lazy(), CleaningSpec(**settings))


def json_of(cleaning: Cleaning) -> bytes:
    sink = io.BytesIO()
    cleaning.write_json(sink)
    return sink.getvalue()


def lines_of(cleaning: Cleaning) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(json_of(cleaning)).splitlines()]


def test_equal_rows_are_kept_and_counted_by_default() -> None:
    result = cleaned(ROWS)
    assert result.rows.collect().sort(ROW).equals(ROWS.sort(ROW))
    assert result.report == {
        "rows_in": 6,
        "rows_out": 6,
        "duplicates": {"found": 2, "dropped": 0},
        "dropped_columns": [],
        "json": {"rows": 6, "complete": True},
    }


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [1, 3, 5, 0, 2, 4]])
def test_of_equal_rows_the_smallest_identity_stays_whatever_the_order(order: list[int]) -> None:
    result = cleaned(ROWS[order], duplicates="drop")
    left = result.rows.collect().sort(ROW)
    assert left[ROW].to_list() == ["a", "b", "d", "f"]
    expected = ROWS.filter(pl.col(ROW).is_in(["a", "b", "d", "f"])).sort(ROW)
    assert left.select(ROWS.columns).equals(expected)
    assert result.report["rows_out"] == 4
    assert result.report["duplicates"] == {"found": 2, "dropped": 2}


def test_the_number_of_duplicates_agrees_with_pandas_and_with_what_is_left() -> None:
    cells = [0.0, -0.0, None, 1.0, 1e-300, 0.1 + 0.2, 0.3]
    rows = pl.DataFrame({"x": cells * 40, "y": (["a", None, ""] * 94)[:280]})
    rows = rows.with_columns(pl.Series(ROW, [f"{n:03}" for n in range(280)]))
    result = cleaned(rows, duplicates="drop")
    distinct = len(rows.drop(ROW).to_pandas().drop_duplicates())
    assert result.report["rows_out"] == distinct == len(result.rows.collect())


def test_columns_that_are_not_wanted_are_gone_from_rows_json_and_report() -> None:
    result = cleaned(ROWS, drop_columns=["name", "not there"])
    assert result.rows.collect_schema().names() == [ROW, "x", "day"]
    assert set(lines_of(result)[0]) == {"x", "day"}
    assert result.report["dropped_columns"] == ["name"]


def test_rows_that_differ_in_a_dropped_column_only_are_no_duplicates() -> None:
    rows = pl.DataFrame({ROW: ["a", "b"], "x": [1, 1], "seen_at": [1, 2]})
    result = cleaned(rows, duplicates="drop", drop_columns=["seen_at"])
    assert result.report["rows_out"] == 2


def test_the_json_holds_every_cell_in_the_order_of_the_identities() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
    rows = ROWS.with_columns(at=pl.lit(moment).cast(pl.Datetime("us", "UTC")), ok=pl.lit(True))
    lines = lines_of(cleaned(rows))
    ordered = rows.sort(ROW).drop(ROW).to_dicts()
    assert [line["x"] for line in lines] == [row["x"] for row in ordered]
    assert [line["name"] for line in lines] == [row["name"] for row in ordered]
    assert [line["day"] for line in lines] == [r["day"] and r["day"].isoformat() for r in ordered]
    assert {line["ok"] for line in lines} == {True}
    parsed = {datetime.fromisoformat(line["at"]).replace(tzinfo=UTC) for line in lines}
    assert parsed == {moment}


def test_the_json_is_the_same_bytes_twice_and_in_any_order_of_rows() -> None:
    first = json_of(cleaned(ROWS))
    assert first == json_of(cleaned(ROWS)) == json_of(cleaned(ROWS[[3, 1, 5, 0, 2, 4]]))


def test_the_json_of_many_blocks_is_ordered_and_whole() -> None:
    count = 120_000
    ids = pl.Series(range(count)).shuffle(seed=1).alias("n")
    rows = pl.DataFrame({ROW: ids.cast(pl.String).str.zfill(8), "n": ids})
    text = gzip.decompress(json_of(cleaned(rows)))
    assert text == b"".join(b'{"n":%d}\n' % n for n in range(count))


@pytest.mark.parametrize(
    ("limit", "written", "complete"), [(4, 4, False), (6, 6, True), (0, 0, False)]
)
def test_a_cut_json_is_reported(limit: int, written: int, complete: bool) -> None:
    result = cleaned(ROWS, json_rows=limit)
    assert result.report["json"] == {"rows": written, "complete": complete}
    assert len(lines_of(result)) == written
    assert [line["x"] for line in lines_of(result)] == ROWS.sort(ROW)["x"].to_list()[:written]


def test_no_rows_give_no_rows_and_an_empty_json() -> None:
    result = cleaned(ROWS.clear(), duplicates="drop")
    assert result.report["rows_out"] == 0
    assert lines_of(result) == []


@pytest.mark.parametrize("method", ["iqr", "zscore"])
def test_values_beyond_the_limits_are_counted_as_numpy_does(method: Any) -> None:
    values = np.r_[np.random.default_rng(0).normal(size=2000), 50.0, -60.0, 70.0]
    rows = pl.LazyFrame(
        {
            ROW: [str(i) for i in range(len(values))],
            "x": values,
            "secret": values,
            "empty": pl.Series([None] * len(values), dtype=pl.Float64),
            "name": ["a"] * len(values),
        }
    )
    columns = {
        "x": Column(type="float"),
        "secret": Column(type="float", sensitive=True),
        "empty": Column(type="float"),
        "name": Column(type="string"),
    }
    limits = Outliers(method=method, factor=2.5)
    result = clean(rows, CleaningSpec(), outliers=limits, features=columns)
    low, high = np.quantile(values, [0.25, 0.75])
    reach = 2.5 * (high - low)
    if method == "zscore":
        low = high = values.mean()
        reach = 2.5 * values.std()
    beyond = int(((values < low - reach) | (values > high + reach)).sum())
    found = result.report["outliers"]
    assert found["x"] == {
        "values": beyond,
        "low": pytest.approx(low - reach),
        "high": pytest.approx(high + reach),
    }
    assert found["secret"] == {"values": beyond}
    assert set(found) == {"x", "secret"}
    assert result.rows.collect()["x"].to_list() == values.tolist()
