"""A table takes a Parquet file in as it is, or converts what Delta Lake has no type for."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from etl_ml.lake import Contents, Lake
from etl_ml.lake.backend import Moved
from etl_ml.lake.content import Counted
from etl_ml.lake.object_store import ObjectStoreBackend
from etl_ml.lake.parquet_file import ParquetFile, sink

ROWS = pl.DataFrame(
    {
        "i": [1, None, 3],
        "x": [0.5, None, 1.5],
        "s": ["é", None, ""],
        "b": [True, None, False],
        "d": [date(2020, 1, 1), None, date(1, 1, 1)],
        "t": [datetime(2020, 1, 1, 1, 2, 3, 4, UTC), None, datetime(1900, 1, 1, tzinfo=UTC)],
    },
    schema_overrides={"t": pl.Datetime("us", "UTC")},
)


def file_of(rows: pl.DataFrame, folder: Path, name: str = "rows") -> ParquetFile:
    path = folder / f"{name}.parquet"
    sink(rows.lazy(), path).collect(engine="streaming")
    return ParquetFile(path)


def tables(local: Lake) -> Path:
    return Path(local.url) / "p/tables/a"


def test_a_file_on_the_same_disk_is_not_copied_and_stays_when_the_first_name_goes(
    local: Lake, tmp_path: Path
) -> None:
    file = file_of(ROWS, tmp_path)
    assert file.is_plain
    number = file.path.stat().st_ino
    version = local.write("p", "a", Contents(file))
    (there,) = tables(local).glob("*.parquet")
    assert there.stat().st_ino == number
    file.path.unlink()
    assert version.table.to_polars().equals(ROWS)
    assert version.table.rows == 3


def test_where_no_link_can_be_made_the_file_is_copied(
    local: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    file = file_of(ROWS, tmp_path)
    monkeypatch.setattr(os, "link", refused)
    assert local.write("p", "a", Contents(file)).table.to_polars().equals(ROWS)


def test_other_columns_than_before_make_a_new_schema_and_leave_the_old_version(
    local: Lake, tmp_path: Path
) -> None:
    local.write("p", "a", Contents(file_of(ROWS, tmp_path, "one")))
    other = ROWS.select("x", "i").with_columns(new=pl.lit(7))
    local.write("p", "a", Contents(file_of(other, tmp_path, "two")))
    local.write("p", "a", Contents(file_of(other, tmp_path, "three")))
    assert local.table("p", "a", 1).to_polars().equals(ROWS)
    for version in (2, 3):
        assert local.table("p", "a", version).to_polars().equals(other)


def test_types_that_delta_lake_lacks_are_converted(local: Lake, tmp_path: Path) -> None:
    odd = pl.DataFrame({"u": pl.Series([1, 2], dtype=pl.UInt8), "l": [["a"], None]})
    file = file_of(odd, tmp_path)
    assert not file.is_plain
    found = local.write("p", "a", Contents(file)).table.to_polars()
    assert found["u"].to_list() == [1, 2]
    assert found["l"].to_list() == [["a"], None]


def test_other_readers_see_the_same_rows(local: Lake, tmp_path: Path) -> None:
    local.write("p", "a", Contents(file_of(ROWS, tmp_path)))
    table = DeltaTable(str(tables(local)))
    assert pl.from_arrow(table.to_pyarrow_table()).equals(ROWS)  # type: ignore[union-attr]
    assert table.count() == 3


def test_a_writer_that_is_overtaken_leaves_nothing_and_comes_next(
    local: Lake, tmp_path: Path
) -> None:
    backend = local.backend
    assert isinstance(backend, ObjectStoreBackend)
    first, second = (file_of(ROWS.head(n), tmp_path, str(n)) for n in (1, 2))
    backend.write_table("p/tables/a", Counted(first), {})
    late = backend.open_table("p/tables/a")
    assert late is not None
    backend.write_table("p/tables/a", Counted(second), {})
    with pytest.raises(Moved):
        late.commit(Counted(first), {}, replace=True)
    assert DeltaTable(str(tables(local))).count() == 2
    # One that believes to follow on the first comes after the second all the same.
    stamp = {"run_id": "r"}
    version, rows, seal = backend.write_table("p/tables/a", Counted(first), stamp, near=1)
    assert (version, rows) == (3, 1)
    assert DeltaTable(str(tables(local))).count() == 1
    scan = backend.scan_table("p/tables/a", version)
    assert scan.rows.collect().equals(ROWS.head(1))
    assert scan.seal == seal
    assert backend.table_metadata("p/tables/a", version)["run_id"] == "r"
