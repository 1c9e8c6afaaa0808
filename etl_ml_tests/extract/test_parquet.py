"""Parquet: typed columns as they were written, in types that the lake can hold."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_ml.extract import extract
from etl_ml.lake import Contents, Lake
from etl_ml.spec.source import FileSource
from etl_ml_tests.extract.files import cells, read, refusal

NANOS = 1_577_836_800_123_456_789
MICROS = datetime(2020, 1, 1, 0, 0, 0, 123456)
TYPES: list[tuple[pa.Array, Any]] = [
    (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
    (pa.array([255], pa.uint8()), 255),
    (pa.array([65535], pa.uint16()), 65535),
    (pa.array([2**32 - 1], pa.uint32()), 2**32 - 1),
    (pa.array([-(2**63)]), -(2**63)),
    (pa.array([0.1]), 0.1),
    (pa.array([1.5], pa.float16()), 1.5),
    (pa.nulls(1), None),
    (pa.array([NANOS], pa.timestamp("ns")), MICROS),
    (pa.array([NANOS], pa.timestamp("ns", "Europe/Berlin")), MICROS.replace(tzinfo=UTC)),
    (pa.array([1], pa.timestamp("s")), datetime(1970, 1, 1, 0, 0, 1)),
    (pa.array([date(2020, 2, 29)], pa.date64()), date(2020, 2, 29)),
    (pa.array(["x"]).dictionary_encode(), "x"),
    (pa.array(["x"], pa.large_string()), "x"),
    (pa.array([time(1, 2, 3)], pa.time64("us")), "01:02:03.000000"),
    (pa.array([Decimal("1.50")]), Decimal("1.50")),
    (pa.array([Decimal("1.50")], pa.decimal256(50, 2)), "1.50"),
    (pa.array([b"\xff\x00"]), b"\xff\x00"),
    (pa.array([[255]], pa.list_(pa.uint8())), [255]),
    (pa.array([[NANOS]], pa.list_(pa.timestamp("ns"))), [MICROS]),
    (pa.array([{"u": 2**64 - 1}], pa.struct([("u", pa.uint64())])), {"u": str(2**64 - 1)}),
    (pa.array([True]), True),
]


@pytest.mark.parametrize(("column", "expected"), TYPES, ids=lambda v: str(getattr(v, "type", "")))
def test_a_type_is_read_and_stored_without_loss(
    tmp_path: Path, lake: Lake, column: pa.Array, expected: Any
) -> None:
    both = (
        pa.concat_arrays([column, pa.nulls(1, column.type)]) if column.null_count == 0 else column
    )
    pq.write_table(pa.table({"c": both}), tmp_path / "a.parquet")
    expected_rows = [{"c": expected}, {"c": None}][: len(both)]
    assert cells(tmp_path, "a.parquet") == expected_rows
    rows = extract(FileSource(type="file", path="a.parquet"), base=tmp_path).rows
    stored = lake.write("p", "raw_data", Contents(rows)).table.to_polars()
    assert sorted(stored["c"].to_list(), key=str) == sorted(cells_of(expected_rows), key=str)


def cells_of(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["c"] for row in rows]


def test_many_row_groups_are_read_in_order(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": range(150_000)}), tmp_path / "a.parquet", row_group_size=7000)
    assert read(tmp_path, "a.parquet")["a"].to_list() == list(range(150_000))


def test_no_rows_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    assert "no rows" in refusal(tmp_path, "a.parquet")


def test_a_moment_that_the_lake_cannot_hold_is_named(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"when": pa.array([2**60], pa.timestamp("ms"))}), tmp_path / "a.parquet"
    )
    assert "column 'when'" in refusal(tmp_path, "a.parquet")


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"a": pa.array([float(i) for i in range(5000)])})
    pq.write_table(table, path, write_page_checksum=True)
    data = path.read_bytes()
    for damaged in (
        data[:500],
        b"hello",
        data[:4] + b"\xff" * 20 + data[24:],
        data[:400] + bytes([data[400] ^ 1]) + data[401:],
    ):
        path.write_bytes(damaged)
        assert "not a sound Parquet file" in refusal(tmp_path, "a.parquet")
    path.write_bytes(data)
    assert read(tmp_path, "a.parquet").height == 5000
