"""Damage is found and named, wherever it is."""

from __future__ import annotations

import polars as pl
import pytest

from etl_ml.lake import Contents, Lake, Log
from etl_ml.lake.mongodb import MongoBackend
from etl_ml.lake.verification import Verified, verify

ROWS = pl.LazyFrame(
    {"_etl_ml_row": [str(n) for n in range(1000)], "x": [n * n for n in range(1000)]}
)


@pytest.fixture
def written(lake: Lake) -> Lake:
    for _ in range(2):
        lake.write("p", "a", Contents(ROWS, {"x.json": {"x": 1}, "b.bin": b"0123456789"}))
    lake.backend.put("p/registry/models/0000000001/model.skops", b"model")
    digest = "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
    manifest = f'{{"files": [{{"path": "model.skops", "sha256": "{digest}"}}]}}'
    lake.backend.put("p/registry/models/0000000001/manifest.json", manifest.encode())
    Log(lake, "p").promote(
        "0000000001", replaces=None, run_id="r", reason="", metric="f1", value=1.0, compared=False
    )
    return lake


def told(found: Verified) -> str:
    return " | ".join(f"{d.what} at {d.where}" for d in found.damage)


def test_a_sound_lake_has_no_damage_and_everything_was_counted(written: Lake) -> None:
    found = verify(written, "p")
    assert found.damage == ()
    assert (found.versions, found.files, found.rows, found.unproven) == (2, 5, 2000, 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p/files/a/0000000001/b.bin", "a 0000000001: b.bin is not the file"),
        ("p/files/a/0000000002/manifest.json", "0000000002/manifest.json is damaged"),
        ("p/registry/models/0000000001/model.skops", "package 0000000001: model.skops is not"),
        ("p/registry/log/0000000001.json", "log of champions is damaged"),
    ],
)
def test_a_flipped_byte_is_named(written: Lake, name: str, expected: str) -> None:
    data = bytearray(written.backend.get(name) or b"")
    data[0] ^= 1
    written.backend.put(name, bytes(data))
    found = verify(written, "p")
    assert len(found.damage) == 1
    assert expected in told(found)
    assert name.rpartition("/")[2] in told(found)


def test_a_missing_file_is_named(written: Lake) -> None:
    written.backend.delete("p/files/a/0000000001/b.bin")
    assert "a 0000000001: b.bin is missing" in told(verify(written, "p"))


def test_rows_that_were_changed_are_found_though_they_can_be_read(written: Lake) -> None:
    if isinstance(written.backend, MongoBackend):
        rows = written.backend._rows("p/tables/a")
        rows.update_one({"row.x": 4}, {"$set": {"row.x": 5}})
    else:
        name = next(
            e.name for e in written.backend.walk("p/tables/a/") if e.name.endswith(".parquet")
        )
        changed = ROWS.with_columns(x=pl.col("x") + 1).collect()
        import io

        sink = io.BytesIO()
        changed.write_parquet(sink)
        written.backend.put(name, sink.getvalue())
    found = verify(written, "p")
    assert len(found.damage) == 1
    unsound = ("its rows are not those that were committed", "its table cannot be read")
    assert any(text in told(found) for text in unsound)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_flipped_byte_of_a_table_is_found(local: Lake, share: float) -> None:
    local.write("p", "a", Contents(ROWS))
    name = next(e.name for e in local.backend.walk("p/tables/a/") if e.name.endswith(".parquet"))
    data = bytearray(local.backend.get(name) or b"")
    data[int(len(data) * share)] ^= 0x10
    local.backend.put(name, bytes(data))
    assert "a 0000000001: its" in told(verify(local, "p"))
