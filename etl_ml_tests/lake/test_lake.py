"""Claimed, written, committed: and only then seen."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from etl_ml.lake import Contents, Lake, MissingVersion, Version, open_lake, version_name
from etl_ml.lake.manifest import UnreadableVersion
from etl_ml.lake.mongodb import MongoBackend
from etl_ml.spec import EtlMlError


def write(lake: Lake, value: int, **lineage: Any) -> Version:
    rows = pl.LazyFrame({"_etl_ml_row": [str(value)], "x": [value]})
    return lake.write("p", "a", Contents(rows, {"x.json": {"x": value}}), **lineage)


def stored(lake: Lake, name: str) -> bytes:
    data = lake.backend.get(name)
    assert data is not None
    return data


def test_versions_are_ten_digits_and_may_be_asked_for_as_numbers(lake: Lake) -> None:
    assert version_name(3) == version_name("3") == version_name("0000000003") == "0000000003"
    assert [write(lake, 1).version, write(lake, 2).version] == ["0000000001", "0000000002"]
    for version in (1, "1", "0000000001"):
        assert lake.read("p", "a", "x.json", version) == {"x": 1}
        assert lake.table("p", "a", version).to_polars()["x"].to_list() == [1]
    assert lake.read("p", "a", "x.json") == {"x": 2}
    assert lake.versions("p", "a") == ["0000000001", "0000000002"]
    assert lake.latest("p", "a") == "0000000002"
    assert lake.pipelines() == ["p"]


@pytest.mark.parametrize("version", [3, "3", "abc", "", -1, "../1"])
def test_a_version_that_is_not_there_is_named_beside_those_that_are(
    lake: Lake, version: str | int
) -> None:
    write(lake, 1)
    with pytest.raises(MissingVersion, match="0000000001"):
        lake.open("p", "a", version)


def test_an_asset_without_versions_asks_to_be_materialized(lake: Lake) -> None:
    with pytest.raises(MissingVersion, match="materialize p/a"):
        lake.open("p", "a")
    assert lake.versions("p", "a") == []
    assert lake.latest("p", "a") is None


def test_a_folder_without_a_manifest_is_invisible_and_its_number_is_not_taken_again(
    lake: Lake,
) -> None:
    write(lake, 1)
    unfinished = lake.claim("p", "a")
    unfinished.table(pl.LazyFrame({"x": [666]}))
    unfinished.file("x.json", {"x": 666})
    assert lake.versions("p", "a") == ["0000000001"]
    assert lake.read("p", "a", "x.json") == {"x": 1}
    assert lake.table("p", "a").to_polars()["x"].to_list() == [1]
    with pytest.raises(MissingVersion):
        lake.open("p", "a", unfinished.version)
    assert write(lake, 3).version == "0000000003"
    unfinished.commit()
    assert lake.versions("p", "a") == ["0000000001", "0000000002", "0000000003"]
    assert lake.read("p", "a", "x.json", 2) == {"x": 666}


def test_a_failed_write_leaves_the_last_version_and_tells_its_own_reason(lake: Lake) -> None:
    def fail(frame: pl.DataFrame) -> pl.DataFrame:
        raise ZeroDivisionError("the tenth batch")

    write(lake, 1)
    broken = pl.LazyFrame({"x": [1]}).map_batches(fail, schema={"x": pl.Int64})
    with pytest.raises(ZeroDivisionError, match="the tenth batch"):
        lake.write("p", "a", Contents(broken))
    assert lake.versions("p", "a") == ["0000000001"]
    assert lake.table("p", "a").to_polars()["x"].to_list() == [1]


def test_a_table_is_read_at_its_own_version_and_not_at_deltas_head(lake: Lake) -> None:
    first, second = write(lake, 1), write(lake, 2)
    lake.claim("p", "a").table(pl.LazyFrame({"other": ["uncommitted"]}))
    assert first.table.to_polars()["x"].to_list() == [1]
    assert second.table.to_polars()["x"].to_list() == [2]
    assert lake.table("p", "a").scan().collect_schema().names() == ["_etl_ml_row", "x"]


def test_an_empty_table_keeps_its_columns(lake: Lake) -> None:
    rows = pl.LazyFrame({"a": [1], "b": ["x"]}).filter(pl.col("a") > 1)
    table = lake.write("p", "a", Contents(rows)).table
    assert table.rows == 0
    assert table.to_polars().schema == {"a": pl.Int64, "b": pl.String}


def test_a_table_is_given_to_every_library(lake: Lake) -> None:
    table = write(lake, 7).table
    assert table.to_polars()["x"].to_list() == [7]
    assert table.to_pandas()["x"].tolist() == [7]
    assert table.to_arrow()["x"].to_pylist() == [7]


def test_the_manifest_says_what_was_written_by_whom_and_from_what(
    lake: Lake,
) -> None:
    version = write(lake, 1, run_id="r1", code_version="c1", upstream={"raw_data": "0000000009"})
    folder = "p/files/a/0000000001"
    found = json.loads(stored(lake, f"{folder}/manifest.json"))
    data = stored(lake, f"{folder}/x.json")
    assert found.pop("created_at").startswith("20")
    found.pop("sha256")
    table = found.pop("table")
    assert table.pop("content") == version.table.content()
    assert (table.pop("seal") is None) == isinstance(lake.backend, MongoBackend)
    assert table == {"path": "p/tables/a", "delta_version": 1, "rows": 1}
    assert found == {
        "format": 1,
        "pipeline": "p",
        "asset": "a",
        "version": "0000000001",
        "run_id": "r1",
        "code_version": "c1",
        "upstream": {"raw_data": "0000000009"},
        "files": [
            {
                "path": "x.json",
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "media_type": "application/json",
            }
        ],
    }
    assert version.url == f"{lake.url}/{folder}"


def test_files_of_every_kind_come_back_as_they_were(lake: Lake) -> None:
    def stream(sink: IO[bytes]) -> None:
        for i in range(3):
            sink.write(b"%d\n" % i)

    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    version = lake.write(
        "p",
        "a",
        Contents(
            files={
                "a.json": {"é": [1, None]},
                "b.jsonl": b'{"a": 1}\n{"a": 2}\n',
                "c.md": "# é",
                "d.npy": array,
                "e.bin": b"\x00\xff",
                "f.txt": stream,
            }
        ),
    )
    assert version.read("a.json") == {"é": [1, None]}
    assert version.read("b.jsonl") == [{"a": 1}, {"a": 2}]
    assert version.read("c.md") == "# é"
    np.testing.assert_array_equal(version.read("d.npy"), array)
    assert version.read("d.npy").dtype == np.float32
    assert version.read("e.bin") == b"\x00\xff"
    assert version.read("f.txt") == "0\n1\n2\n"
    for ref in version.manifest.files:
        data = stored(lake, f"{version.manifest.folder}/{ref.path}")
        assert (ref.bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    with pytest.raises(MissingVersion, match=r"no file 'z\.json'"):
        version.read("z.json")


def test_an_array_of_objects_is_neither_written_nor_read(lake: Lake, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path / "ran").touch, ()

    objects = np.array([Bomb()], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        lake.write("p", "a", Contents(files={"a.npy": objects}))
    pickled = io.BytesIO()
    np.save(pickled, objects, allow_pickle=True)
    version = lake.write("p", "a", Contents(files={"a.npy": pickled.getvalue()}))
    with pytest.raises(UnreadableVersion, match=r"a\.npy is no sound array: .* pickle"):
        version.read("a.npy")
    assert not (tmp_path / "ran").exists()


def test_a_flipped_byte_of_a_file_is_refused_with_version_and_path(
    lake: Lake,
) -> None:
    version = write(lake, 1)
    path = "p/files/a/0000000001/x.json"
    data = bytearray(stored(lake, path))
    data[len(data) // 2] ^= 1
    lake.backend.put(path, bytes(data))
    with pytest.raises(UnreadableVersion, match=r"a 0000000001: x\.json is not the file") as caught:
        version.read("x.json")
    assert caught.value.where == f"{lake.url}/{path}"


def test_a_missing_file_is_refused_with_version_and_path(lake: Lake) -> None:
    version = write(lake, 1)
    path = "p/files/a/0000000001/x.json"
    lake.backend.delete(path)
    with pytest.raises(UnreadableVersion, match=r"a 0000000001: x\.json is missing") as caught:
        version.read("x.json")
    assert caught.value.where == f"{lake.url}/{path}"


@pytest.mark.parametrize("damage", ["part", "log"])
def test_a_table_whose_files_are_gone_is_refused_with_version_and_path(
    lake: Lake, damage: str
) -> None:
    version = write(lake, 1)
    if isinstance(lake.backend, MongoBackend):
        rows, commits = lake.backend._rows("p/tables/a"), lake.backend._commits
        (rows if damage == "part" else commits).delete_many({})
    end = ".parquet" if damage == "part" else ".json"
    for entry in list(lake.backend.walk("p/tables/a/")):
        if entry.name.endswith(end):
            lake.backend.delete(entry.name)
    told = "a 0000000001: its table cannot be read|0 of its 1 rows are there"
    with pytest.raises(UnreadableVersion, match=told) as caught:
        version.table.to_polars()
    assert f"{lake.url}/p/tables/a" in str(caught.value.where)


@pytest.mark.parametrize(
    "damaged", [b"", b"{", b"[]", b"null", b"{}", b'{"format": "x"}', b"\xff\xfe", None]
)
def test_a_truncated_manifest_is_refused_with_version_and_path(
    lake: Lake, damaged: bytes | None
) -> None:
    write(lake, 1)
    write(lake, 2)
    path = "p/files/a/0000000002/manifest.json"
    data = stored(lake, path)
    lake.backend.put(path, data[: len(data) // 2] if damaged is None else damaged)
    with pytest.raises(UnreadableVersion, match="damaged") as caught:
        lake.open("p", "a")
    assert caught.value.where == f"{lake.url}/{path}"
    assert lake.read("p", "a", "x.json", 1) == {"x": 1}


def test_a_newer_format_is_refused_with_version_and_path(lake: Lake) -> None:
    write(lake, 1)
    path = "p/files/a/0000000001/manifest.json"
    newer = json.loads(stored(lake, path)) | {"format": 2, "new": 1}
    lake.backend.put(path, json.dumps(newer).encode())
    with pytest.raises(UnreadableVersion, match="format 2; this etl_ml reads up to 1") as caught:
        lake.open("p", "a")
    assert caught.value.where == f"{lake.url}/{path}"


def test_folders_that_are_no_versions_are_left_alone(lake: Lake) -> None:
    write(lake, 1)
    lake.backend.put("p/files/a/zzz/manifest.json", b"{}")
    assert lake.latest("p", "a") == "0000000001"
    assert write(lake, 2).version == "0000000002"


def test_equal_tables_have_equal_content_hashes_and_others_do_not(lake: Lake) -> None:
    def table(**columns: Any) -> str:
        return lake.write("p", "a", Contents(pl.LazyFrame(columns))).table.content_hash()

    one = table(_etl_ml_row=["1", "2"], x=[1, 2], r=[["a"], []])
    assert table(_etl_ml_row=["2", "1"], x=[2, 1], r=[[], ["a"]]) == one
    assert table(_etl_ml_row=["1", "2"], x=[2, 1], r=[["a"], []]) != one
    assert table(_etl_ml_row=["1", "2"], y=[1, 2], r=[["a"], []]) != one


def test_types_of_arrow_batches_come_back(lake: Lake) -> None:
    class Once:
        def __init__(self, table: pa.Table) -> None:
            self.schema, self._table = table.schema, table

        def __iter__(self) -> Any:
            return iter(self._table.to_batches(max_chunksize=1))

    rows = pa.table(
        {
            "i": pa.array([1, None], pa.int16()),
            "f": pa.array([0.5, None], pa.float32()),
            "s": ["é", None],
            "b": [True, None],
            "t": pa.array([0, None], pa.timestamp("us", "UTC")),
            "l": [[1], None],
            "d": pa.array([1, None], pa.date32()),
            "x": [b"\xff", None],
        }
    )
    found = lake.write("p", "a", Contents(Once(rows))).table.to_polars()
    assert found.sort("i", nulls_last=True).to_dicts() == rows.to_pylist()


def test_a_lake_is_opened_by_path_url_or_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(open_lake(tmp_path / "a"), 1)
    assert open_lake(f"file://{tmp_path}/a").read("p", "a", "x.json") == {"x": 1}
    monkeypatch.setenv("ETL_ML_LAKE", str(tmp_path / "a"))
    assert open_lake().read("p", "a", "x.json") == {"x": 1}
    monkeypatch.delenv("ETL_ML_LAKE")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    assert open_lake().url == str(tmp_path / ".etl_ml/lake")
    with pytest.raises(EtlMlError, match="redis://"):
        open_lake("redis://nowhere")


def test_a_folder_whose_name_is_a_pattern_keeps_its_tables_apart(tmp_path: Path) -> None:
    for name, value in (("a[b]*?", 1), ("ab", 2), ("year=2026", 3)):
        write(open_lake(tmp_path / name), value)
    for name, value in (("a[b]*?", 1), ("ab", 2), ("year=2026", 3)):
        found = open_lake(tmp_path / name).table("p", "a").to_polars()
        assert found.to_dicts() == [{"_etl_ml_row": str(value), "x": value}]
