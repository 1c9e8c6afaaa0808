"""What was changed after its commit is refused and named; nothing in it is run or given room."""

from __future__ import annotations

import io
import json
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from etl_ml.lake import Contents, Lake, Run, open_lake
from etl_ml.lake import version as module
from etl_ml.lake.estimator import UntrustedModel, dump_estimator, load_estimator
from etl_ml.lake.manifest import UnreadableVersion
from etl_ml.lake.mongodb import MongoBackend
from etl_ml.spec import EtlMlError

ROWS = pl.LazyFrame({"_etl_ml_row": [f"{n}" for n in range(500)], "x": range(500)})
VALUES = np.arange(200_000)
FILES = {"x.json": {"x": 1}, "x.npy": VALUES, "x.md": "text"}


@pytest.fixture
def written(lake: Lake) -> Lake:
    for _ in range(2):
        lake.write("p", "a", Contents(ROWS, FILES), run_id="r")
    return lake


def folder(version: int) -> str:
    return f"p/files/a/{version:010d}"


def parquet(lake: Lake, version: int) -> str:
    """The file that holds the rows of a version."""
    table = lake.open("p", "a", version).manifest.table
    assert table is not None
    data = lake.backend.get(f"{table.path}/_delta_log/{table.delta_version:020d}.json") or b""
    (name,) = [json.loads(n)["add"]["path"] for n in data.splitlines() if b'"add"' in n]
    return f"{table.path}/{name}"


def sound(lake: Lake, version: int) -> None:
    found = lake.open("p", "a", version)
    assert found.table.to_polars().sort("x").equals(ROWS.collect())
    assert found.read("x.json") == FILES["x.json"]
    np.testing.assert_array_equal(found.read("x.npy"), VALUES)
    assert found.read("x.md") == "text"


def flipped(lake: Lake, name: str, share: float) -> None:
    data = bytearray(lake.backend.get(name) or b"")
    data[int(share * (len(data) - 1))] ^= 4
    lake.backend.put(name, bytes(data))


@pytest.mark.parametrize("share", [0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("file", ["x.json", "x.npy", "x.md", "manifest.json"])
def test_a_flipped_byte_is_refused_with_its_place_and_the_version_before_is_there(
    written: Lake, file: str, share: float
) -> None:
    flipped(written, f"{folder(2)}/{file}", share)
    with pytest.raises(UnreadableVersion, match=file) as caught:
        sound(written, 2)
    assert caught.value.where == f"{written.url}/{folder(2)}/{file}"
    sound(written, 1)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("read", ["scan", "to_polars", "to_pandas", "to_arrow"])
def test_rows_with_a_flipped_byte_are_refused_however_they_are_read(
    written: Lake, share: float, read: str
) -> None:
    if isinstance(written.backend, MongoBackend):
        rows = written.backend._rows("p/tables/a")
        (second,) = written.backend._commits.find_one({"_id": "p/tables/a/0000000002"})["parts"]
        number = int(share * 499)
        rows.update_one({"part": second, "row.x": number}, {"$set": {"row.x": number ^ 4}})
    else:
        flipped(written, parquet(written, 2), share)
    table = open_lake(written.url).table("p", "a", 2)
    with pytest.raises(UnreadableVersion, match=r"its (rows|table)") as caught:
        table.scan().collect() if read == "scan" else getattr(table, read)()
    assert f"{written.url}/p/tables/a" in str(caught.value)
    sound(written, 1)


def test_a_table_that_was_touched_and_holds_the_same_is_read_and_proved_once(
    written: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(written.backend, MongoBackend):
        return  # its rows are compared whenever they are read
    name = parquet(written, 2)
    data = written.backend.get(name) or b""
    written.backend.delete(name)
    written.backend.put(name, data)
    proved: list[object] = []
    hashed = module.content_of

    def counted(rows: pl.LazyFrame) -> str:
        proved.append(rows)
        return hashed(rows)

    monkeypatch.setattr(module, "content_of", counted)
    sound(written, 1)
    assert not proved
    for _ in range(3):
        sound(written, 2)
    # S3's entity tags tell the content itself.
    assert len(proved) == (0 if written.url.startswith("s3:") else 1)


@pytest.mark.parametrize("file", ["x.json", "x.npy", "manifest.json", "rows"])
def test_what_is_missing_is_named_and_the_version_before_is_there(written: Lake, file: str) -> None:
    if file != "rows":
        written.backend.delete(f"{folder(2)}/{file}")
    elif isinstance(written.backend, MongoBackend):
        written.backend._commits.delete_one({"_id": "p/tables/a/0000000002"})
    else:
        written.backend.delete(parquet(written, 2))
    with pytest.raises(EtlMlError) as caught:
        sound(written, 2)
    told = {"manifest.json": "0000000002", "rows": "a 0000000002: its table"}
    assert told.get(file, file) in str(caught.value)
    sound(written, 1)


def test_a_manifest_that_is_another_versions_is_refused(written: Lake) -> None:
    other = written.backend.get(f"{folder(1)}/manifest.json") or b""
    written.backend.put(f"{folder(2)}/manifest.json", other)
    with pytest.raises(UnreadableVersion, match="0000000001") as caught:
        written.open("p", "a", 2)
    assert caught.value.where == f"{written.url}/{folder(2)}/manifest.json"


def test_a_damaged_record_of_a_run_is_named(written: Lake) -> None:
    Run(written, "p", "r").read(["a"])
    name = "p/runs/r/read/a.json"
    written.backend.put(name, b'{"vers')
    with pytest.raises(UnreadableVersion, match="record of what a run read") as caught:
        Run(written, "p", "r").read(["a"])
    assert caught.value.where == f"{written.url}/{name}"


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def npy(shape: str, descr: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def climbing(mark: Path) -> bytes:
    """An estimator's archive with an entry that would leave the folder it is unpacked to."""
    out = io.BytesIO(dump_estimator(LinearRegression().fit([[1.0]], [1.0])))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(f"../../../../../..{mark}", b"")
    return out.getvalue()


def objects(mark: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    return out.getvalue()


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "pickle": lambda mark: pickle.dumps(Bomb(mark)),
    "zip that climbs": climbing,
    "npy of objects": objects,
    "100 GB header": lambda mark: npy("(12500000000,)", "'<f8'"),
    "negative header": lambda mark: npy("(-2, -4)", "'<f8'", bytes(64)),
    "endless header": lambda mark: b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("place", ["x.json", "x.npy", "manifest.json", "rows"])
def test_what_was_put_in_place_of_a_file_is_refused_and_never_run(
    written: Lake, tmp_path: Path, place: str, kind: str
) -> None:
    mark = tmp_path / "ran"
    name = f"{folder(2)}/{place}"
    if place == "rows":
        if isinstance(written.backend, MongoBackend):
            name = f"{folder(2)}/x.md"  # its rows are no files
        else:
            name = parquet(written, 2)
    written.backend.put(name, HOSTILE[kind](mark))
    with pytest.raises(UnreadableVersion) as caught:
        sound(written, 2)
    assert caught.value.where is not None
    assert caught.value.where.startswith(f"{written.url}/p/")
    assert not mark.exists()
    sound(written, 1)


@pytest.mark.parametrize("kind", ["npy of objects", "100 GB header", "negative header"])
def test_an_array_that_its_manifest_vouches_for_is_refused_all_the_same(
    lake: Lake, tmp_path: Path, kind: str
) -> None:
    mark = tmp_path / "ran"
    version = lake.write("p", "a", Contents(files={"x.npy": HOSTILE[kind](mark)}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableVersion, match=r"x\.npy is no sound array"):
        version.read("x.npy")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200_000  # kB
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["pickle", "zip that climbs"])
def test_an_estimator_that_its_manifest_vouches_for_runs_nothing(
    local: Lake, tmp_path: Path, kind: str
) -> None:
    mark = tmp_path / "ran"
    version = local.write("p", "a", Contents(files={"x.skops": HOSTILE[kind](mark)}))
    data = version.read("x.skops")
    if kind == "pickle":
        with pytest.raises(UntrustedModel, match=r"not a sound skops file"):
            load_estimator(data, trusted=[])
    else:
        assert load_estimator(data, trusted=[]).coef_.shape == (1,)
    assert not mark.exists()


def test_a_file_of_100_gb_in_place_of_a_small_one_is_refused_unread(local: Lake) -> None:
    version = local.write("p", "a", Contents(ROWS, FILES))
    path = Path(version.url) / "x.npy"
    with path.open("r+b") as file:
        file.truncate(100 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableVersion, match="not the file that was committed"):
        version.read("x.npy")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200_000  # kB
