"""Writers that race, and writers that are killed: real processes on one lake."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import etl_ml_tests
from etl_ml.lake import Contents, Lake, open_lake
from etl_ml_tests.lake.writer_process import ROWS

ROOT = Path(etl_ml_tests.__file__).parents[1]


def writer(tmp_path: Path, number: int, versions: int) -> subprocess.Popen[bytes]:
    module = "etl_ml_tests.lake.writer_process"
    arguments = [str(tmp_path / "lake"), str(number), str(versions), str(tmp_path / "start")]
    return subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT)


def wait_for(tmp_path: Path, writers: int, pattern: str = "ready-*") -> None:
    until = time.monotonic() + 120
    while len(list(tmp_path.glob(pattern))) < writers:
        assert time.monotonic() < until
        time.sleep(0.02)


def assert_whole(lake: Lake, version: str) -> int:
    """Everything that a version holds is of one writer."""
    opened = lake.open("p", "raw_data", version)
    number = int(opened.manifest.run_id)
    rows = opened.table.to_polars()
    assert opened.table.rows == rows.height == ROWS
    assert rows["by"].unique().to_list() == [number]
    assert rows["_etl_ml_row"].n_unique() == ROWS
    assert opened.read("by.json") == {"by": number}
    np.testing.assert_array_equal(opened.read("by.npy"), np.full(20_000, number))
    return number


@pytest.mark.parametrize(("writers", "versions"), [(2, 3), (16, 1)])
def test_versions_of_racing_processes_are_distinct_and_never_mixed(
    tmp_path: Path, writers: int, versions: int
) -> None:
    processes = [writer(tmp_path, number, versions) for number in range(writers)]
    wait_for(tmp_path, writers)
    (tmp_path / "start").touch()
    assert [process.wait(timeout=240) for process in processes] == [0] * writers
    lake = open_lake(tmp_path / "lake")
    committed = lake.versions("p", "raw_data")
    assert committed == [f"{n:010d}" for n in range(1, writers * versions + 1)]
    assert sorted(assert_whole(lake, version) for version in committed) == sorted(
        list(range(writers)) * versions
    )
    tables = [lake.open("p", "raw_data", v).manifest.table for v in committed]
    assert len({table.delta_version for table in tables if table}) == writers * versions


def test_a_killed_writer_leaves_every_committed_version_readable_and_nothing_half_visible(
    tmp_path: Path,
) -> None:
    kills = 15
    chance = random.Random(7)
    lake = open_lake(tmp_path / "lake")
    (tmp_path / "start").touch()
    processes = [(number, writer(tmp_path, number, 0)) for number in range(4)]
    known: list[str] = []
    for number in range(4, kills + 4):
        doomed, victim = processes.pop(0)
        wait_for(tmp_path, 1, f"ready-{doomed}")
        time.sleep(chance.uniform(0.1, 0.5))
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
        committed = lake.versions("p", "raw_data")
        assert set(known) <= set(committed)
        known = committed
        if number < kills:
            processes.append((number, writer(tmp_path, number, 0)))
    assert not processes
    assert len(known) > kills / 2
    for version in known:
        assert_whole(lake, version)
    folder = tmp_path / "lake/p/files/raw_data"
    claimed = [path.name for path in folder.iterdir() if path.is_dir()]
    assert set(known) < set(claimed), "no kill hit a writer at work: the test proves nothing"
    after = lake.write("p", "raw_data", Contents(pl.LazyFrame({"a": [1]})))
    assert after.version == f"{max(map(int, claimed)) + 1:010d}"
    assert lake.latest("p", "raw_data") == after.version
    assert after.table.to_polars().to_dicts() == [{"a": 1}]
