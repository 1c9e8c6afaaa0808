"""Tables that grow: rows and cursor in one commit, each exactly once."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from etl_ml.lake import Contents, Increment, Lake
from etl_ml.lake.backend import Moved, TableHandle
from etl_ml.lake.content import Counted
from etl_ml.lake.growing import cursor_of
from etl_ml.lake.parquet_file import DiskFull


class Rows:
    """Numbers as batches."""

    def __init__(self, *values: int) -> None:
        table = pl.DataFrame({"a": list(values)}, schema={"a": pl.Int64}).to_arrow()
        self.schema, self._batches = table.schema, table.to_batches()

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._batches)


def following(head: TableHandle | None) -> Increment:
    """The number after the cursor."""
    cursor = cursor_of(head.metadata) if head else None
    value = cursor["at"] + 1 if cursor else 0
    return Increment(Rows(value), {"at": value}, replace=cursor is None)


def values(lake: Lake, version: str | None = None) -> list[int]:
    found = lake.table("p", "raw_data", version).to_polars()["a"]
    return sorted(found.to_list())


def test_every_version_keeps_the_rows_and_the_cursor_that_it_had(lake: Lake) -> None:
    written = [lake.write("p", "raw_data", Contents(grow=following)) for _ in range(3)]
    for number, version in enumerate(written):
        assert values(lake, version.version) == list(range(number + 1))
        again = lake.open("p", "raw_data", version.version).table
        assert again.rows == number + 1
        assert again.cursor == {"at": number}


def test_where_nothing_follows_the_version_has_the_table_as_it_is(lake: Lake) -> None:
    first = lake.write("p", "raw_data", Contents(grow=following))
    second = lake.write("p", "raw_data", Contents(grow=lambda head: None))
    assert second.version > first.version
    assert second.manifest.table == first.manifest.table


def test_a_writer_that_was_overtaken_writes_nothing_and_begins_anew(lake: Lake) -> None:
    lake.write("p", "raw_data", Contents(grow=following))
    calls = []

    def slow(head: TableHandle | None) -> Increment:
        calls.append(head)
        if len(calls) == 1:
            lake.write("p", "raw_data", Contents(grow=following))
        return following(head)

    lake.write("p", "raw_data", Contents(grow=slow))
    assert len(calls) == 2
    assert values(lake) == [0, 1, 2]


def test_many_writers_at_once_append_each_number_once(lake: Lake) -> None:
    lake.write("p", "raw_data", Contents(grow=following))
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(3):
                lake.write("p", "raw_data", Contents(grow=following))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    head = lake.backend.open_table("p/tables/raw_data")
    assert head is not None
    assert sorted(head.scan().collect()["a"].to_list()) == list(range(13))


def test_a_commit_without_its_manifest_is_taken_over(lake: Lake) -> None:
    lake.write("p", "raw_data", Contents(grow=following))
    # A writer that is killed between the Delta commit and the manifest:
    writer = lake.claim("p", "raw_data", run_id="killed")
    handle = lake.backend.open_table("p/tables/raw_data")
    assert handle is not None
    writer.follow(handle, following(handle))
    assert lake.latest("p", "raw_data") == "0000000001"

    after = lake.write("p", "raw_data", Contents(grow=following))
    assert values(lake) == [0, 1, 2]
    assert lake.versions("p", "raw_data") == ["0000000001", writer.version, after.version]
    adopted = lake.open("p", "raw_data", writer.version)
    assert adopted.manifest.run_id == "killed"
    assert values(lake, writer.version) == [0, 1]
    # The writer was only slow: its own commit finds what was written for it.
    assert writer.commit().manifest == adopted.manifest


def test_a_handle_commits_once(lake: Lake) -> None:
    lake.write("p", "raw_data", Contents(grow=following))
    handle = lake.backend.open_table("p/tables/raw_data")
    late = lake.backend.open_table("p/tables/raw_data")
    assert handle is not None
    assert late is not None
    handle.commit(Counted(Rows(1)), {"version": "x"}, replace=False)
    with pytest.raises(Moved):
        late.commit(Counted(Rows(1)), {"version": "y"}, replace=False)
    assert values_at_head(lake) == [0, 1]


def values_at_head(lake: Lake) -> list[int]:
    head = lake.backend.open_table("p/tables/raw_data")
    assert head is not None
    return sorted(head.scan().collect()["a"].to_list())


def test_a_commit_whose_answer_is_lost_is_not_made_again(
    local: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write("p", "raw_data", Contents(grow=following))
    import deltalake

    real = deltalake.write_deltalake

    def lost(*arguments: object, **options: object) -> None:
        real(*arguments, **options)  # type: ignore[arg-type]
        raise OSError("connection reset by peer")

    monkeypatch.setattr(deltalake, "write_deltalake", lost)
    version = local.write("p", "raw_data", Contents(grow=following))
    assert values(local, version.version) == [0, 1]


def test_a_full_disk_leaves_the_last_version_and_says_so(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = """
import resource, sys
import polars as pl
from etl_ml.lake import Contents, open_lake
lake = open_lake(sys.argv[1])
lake.write("p", "a", Contents(pl.LazyFrame({"a": [1]})))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import numpy as np
big = pl.LazyFrame({"a": np.random.default_rng(0).integers(0, 2**60, 1_000_000)})
try:
    lake.write("p", "a", Contents(big))
except Exception as error:
    print(type(error).__name__, error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lake")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stdout.startswith(DiskFull.__name__), run.stdout + run.stderr
    assert "the last version is as it was" in run.stdout
    from etl_ml.lake import open_lake

    lake = open_lake(tmp_path / "lake")
    assert lake.versions("p", "a") == ["0000000001"]
    assert lake.table("p", "a").to_polars()["a"].to_list() == [1]


def test_a_table_that_was_replaced_grows_and_is_replaced_again(lake: Lake) -> None:
    def rows(*found: int) -> Contents:
        return Contents(pl.LazyFrame({"a": found}))

    def more(head: TableHandle | None) -> Increment:
        assert head is not None
        return Increment(Rows(7), {"at": head.rows})

    lake.write("p", "raw_data", rows(1))
    lake.write("p", "raw_data", rows(1, 2))
    for _ in range(12):  # past a checkpoint
        lake.write("p", "raw_data", Contents(grow=more))
    lake.write("p", "raw_data", rows(3, 4))
    lake.write("p", "raw_data", Contents(grow=more))
    lake.write("p", "raw_data", rows(5))
    expected = [[1], [1, 2], *([1, 2, *[7] * n] for n in range(1, 13)), [3, 4], [3, 4, 7], [5]]
    for number, found in enumerate(expected, 1):
        assert values(lake, str(number)) == found
        table = lake.open("p", "raw_data", number).table
        assert table.content_hash() == table.content().rpartition(":")[2]
    if "://" not in lake.url:
        delta = DeltaTable(f"{lake.url}/p/tables/raw_data")
        assert delta.to_pyarrow_table()["a"].to_pylist() == [5]
        assert delta.metadata().configuration["delta.enableExpiredLogCleanup"] == "false"
