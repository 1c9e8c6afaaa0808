"""What vacuum removes, and what it never does."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from bson import ObjectId

from etl_ml.lake import Contents, Lake, Log, Run, Version
from etl_ml.lake import retention as module
from etl_ml.lake.growing import Increment
from etl_ml.lake.manifest import UnreadableVersion
from etl_ml.lake.mongodb import MongoBackend
from etl_ml.lake.retention import Removed, vacuum
from etl_ml_tests.lake.test_growing import following, values

NOW = timedelta(0)


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", timedelta(0))


def write(lake: Lake, asset: str, value: int, **lineage: Any) -> Version:
    rows = pl.LazyFrame({"_etl_ml_row": [f"{value}"], "x": [value]})
    return lake.write("p", asset, Contents(rows, {"x.json": {"x": value}}), **lineage)


def removed(lake: Lake, keep: int = 1, **options: Any) -> Removed:
    # What was written is older than now, by the store's clock; that of parts counts seconds.
    time.sleep(1.1 if isinstance(lake.backend, MongoBackend) else 0.05)
    return vacuum(lake, "p", **{"keep": keep, "older_than": NOW} | options)


def stored_rows(lake: Lake, asset: str) -> int:
    if isinstance(lake.backend, MongoBackend):
        return int(lake.backend._rows(f"p/tables/{asset}").count_documents({}))
    entries = lake.backend.walk(f"p/tables/{asset}/")
    return sum(e.name.endswith(".parquet") and "_delta_log" not in e.name for e in entries)


def test_the_newest_versions_stay_and_older_ones_go_with_their_rows(lake: Lake) -> None:
    for value in range(6):
        write(lake, "a", value)
    planned = removed(lake, keep=2, dry_run=True)
    assert len(lake.versions("p", "a")) == 6
    assert stored_rows(lake, "a") == 6
    found = removed(lake, keep=2)
    assert found == planned
    assert found.versions == tuple(f"a {n:010d}" for n in range(1, 5))
    assert found.bytes > 0
    assert lake.versions("p", "a") == ["0000000005", "0000000006"]
    assert stored_rows(lake, "a") == 2
    assert lake.table("p", "a").to_polars()["x"].to_list() == [5]
    assert lake.read("p", "a", "x.json", 5) == {"x": 4}
    assert write(lake, "a", 6).version == "0000000007"
    assert removed(lake, keep=3).is_nothing


def test_what_is_young_stays(lake: Lake) -> None:
    for value in range(4):
        write(lake, "a", value)
    assert removed(lake, older_than=timedelta(hours=1)).versions == ()
    assert len(lake.versions("p", "a")) == 4


def test_what_a_version_that_stays_was_made_from_stays(lake: Lake) -> None:
    first = write(lake, "raw", 1)
    middle = write(lake, "clean", 2, upstream={"raw": first.version})
    write(lake, "model", 3, upstream={"clean": middle.version})
    for value in range(3):
        write(lake, "raw", value)
        write(lake, "clean", value)
    removed(lake)
    assert lake.versions("p", "raw") == ["0000000001", "0000000004"]
    assert lake.versions("p", "clean") == ["0000000001", "0000000004"]
    assert lake.table("p", "raw", 1).to_polars()["x"].to_list() == [1]
    assert Run(lake, "p", "").closure("model", "0000000001") == {
        "raw": "0000000001",
        "clean": "0000000001",
    }


def test_champions_their_packages_and_all_they_descend_from_stay(lake: Lake) -> None:
    replaces = None
    for value in range(1, 5):
        raw = write(lake, "raw_data", value)
        model = write(lake, "trained_model", value, upstream={"raw_data": raw.version})
        lake.backend.put(f"p/registry/models/{model.version}/manifest.json", b"{}")
        if value in (1, 3):
            Log(lake, "p").promote(
                model.version,
                replaces=replaces,
                run_id="r",
                reason="",
                metric="f1",
                value=1.0,
                compared=False,
            )
            replaces = model.version
    found = removed(lake)
    assert found.packages == ("0000000001", "0000000002", "0000000004")
    assert lake.versions("p", "trained_model") == ["0000000003", "0000000004"]
    assert lake.versions("p", "raw_data") == ["0000000003", "0000000004"]
    assert lake.backend.get("p/registry/models/0000000003/manifest.json") is not None
    assert len(Log(lake, "p").entries()) == 2


def test_what_a_run_of_the_last_two_days_needs_stays(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", timedelta(days=2))
    write(lake, "raw", 1)
    Run(lake, "p", "going on").read(["raw"])
    for value in range(4):
        write(lake, "raw", value)
    removed(lake)
    assert lake.versions("p", "raw") == ["0000000001", "0000000005"]


def test_what_killed_writers_left_goes_and_what_is_being_written_stays(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lake, "a", 1)
    killed = lake.claim("p", "a")
    killed.table(pl.LazyFrame({"_etl_ml_row": ["k"], "x": [666]}))
    killed.file("x.json", {"x": 666})
    write(lake, "a", 3)
    at_work = lake.claim("p", "a")
    at_work.file("x.json", {"x": 4})
    found = removed(lake, keep=5)
    assert found.leftovers == ("a 0000000002",)
    assert stored_rows(lake, "a") == 2
    assert not list(lake.backend.walk("p/files/a/0000000002/"))
    assert at_work.commit().read("x.json") == {"x": 4}
    monkeypatch.setattr(module, "GRACE", timedelta(days=2))
    lake.claim("p", "a")
    write(lake, "a", 6)
    assert removed(lake, keep=5).leftovers == ()


def test_a_table_that_grows_keeps_the_rows_of_every_commit(lake: Lake) -> None:
    for _ in range(5):
        lake.write("p", "raw_data", Contents(grow=following))
    before = values(lake)
    assert len(removed(lake).versions) == 4
    assert values(lake) == before
    lake.write("p", "raw_data", Contents(grow=following))
    assert values(lake) == [*before, len(before)]


def test_a_commit_that_waits_for_its_manifest_keeps_its_rows(lake: Lake) -> None:
    def start_anew(head: Any) -> Increment | None:
        found = following(head)
        return Increment(found.rows, found.cursor, replace=True)

    lake.write("p", "raw_data", Contents(grow=following))
    writer = lake.claim("p", "raw_data", run_id="killed")
    handle = lake.backend.open_table("p/tables/raw_data")
    assert handle is not None
    writer.follow(handle, start_anew(handle))  # type: ignore[arg-type]
    removed(lake)
    lake.write("p", "raw_data", Contents(grow=lambda head: None))
    assert values(lake, writer.version) == [1]


def test_a_hint_that_is_far_behind_does_not_hide_the_newest_version(lake: Lake) -> None:
    for value in range(1, 6):
        write(lake, "a", value)
    write(lake, "b", 1, upstream={"a": "0000000001"})
    lake.backend.put("p/files/a/latest", b"0000000001")
    removed(lake)
    assert lake.versions("p", "a") == ["0000000001", "0000000005"]
    assert lake.latest("p", "a") == "0000000005"
    assert write(lake, "a", 6).version == "0000000006"


def test_a_damaged_manifest_stops_it_before_anything_is_removed(lake: Lake) -> None:
    for value in range(4):
        write(lake, "a", value)
    lake.backend.put("p/files/a/0000000004/manifest.json", b"{")
    with pytest.raises(UnreadableVersion, match="damaged"):
        removed(lake)
    assert len(lake.versions("p", "a")) == 4


def test_what_a_killed_writer_had_begun_goes(lake: Lake) -> None:
    write(lake, "a", 1)
    if isinstance(lake.backend, MongoBackend):
        # Uploaded, and killed before its name was written; and killed while it uploaded.
        lake.backend._stored("p/files/a/0000000009/x.npy", bytes(100_000))
        chunk = {"files_id": ObjectId(), "n": 0, "data": bytes(10)}
        lake.backend._database["lake.chunks"].insert_one(chunk)
    elif "://" not in lake.url:
        for name in ("x.npy#1", "y.npy#83757"):
            Path(lake.url, "p/files/a/0000000001", name).write_bytes(bytes(100_000))
    else:
        return  # parts of an upload are hidden in a bucket
    assert len(list(lake.backend.walk("p/files/a/0000000001/"))) == 3
    planned = removed(lake, keep=5, dry_run=True)
    found = removed(lake, keep=5)
    assert found == planned
    assert (found.unfinished, found.versions) == (2, ())
    assert found.bytes >= 100_000
    assert removed(lake, keep=5).is_nothing
    assert lake.read("p", "a", "x.json") == {"x": 1}


def test_what_is_being_uploaded_stays(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", timedelta(days=2))
    write(lake, "a", 1)
    if isinstance(lake.backend, MongoBackend):
        lake.backend._stored("p/files/a/0000000009/x.npy", bytes(100_000))
    elif "://" not in lake.url:
        Path(lake.url, "p/files/a/0000000001/x.npy#1").write_bytes(b"...")
    assert removed(lake, keep=5).is_nothing
