"""Writers that race, and writers that are killed: real processes on one lake."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import etl_ml_tests
from etl_ml.lake import Contents, Lake, open_lake
from etl_ml.lake.verification import verify
from etl_ml_tests.lake.conftest import BACKENDS, place
from etl_ml_tests.lake.writer_process import ROWS, contents

KILLS = int(os.environ.get("ETL_ML_TEST_KILLS", "50"))
# Seconds in which a writer gets to its second or third version.
LONGEST = {"local": 0.3, "s3": 0.6, "azure": 0.6, "mongodb": 0.8}
ROOT = Path(etl_ml_tests.__file__).parents[1]


def writer(
    url: str, tmp_path: Path, number: int, versions: int, threads: int = 1
) -> subprocess.Popen[bytes]:
    module = "etl_ml_tests.lake.writer_process"
    arguments = [url, str(number), str(versions), str(tmp_path / "start"), str(threads)]
    return subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT)


@contextmanager
def nursery(url: str) -> Iterator[Callable[[int], int]]:
    """What makes writers that write for ever, and gives their process ids."""
    command = [sys.executable, "-m", "etl_ml_tests.lake.writer_process", url]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:

        def new(number: int) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield new


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


@pytest.mark.parametrize(
    ("kind", "writers", "versions", "threads"),
    [
        ("local", 2, 3, 1),
        ("local", 16, 1, 1),
        ("s3", 2, 1, 8),
        ("azure", 2, 1, 8),
        ("mongodb", 2, 1, 8),
    ],
)
def test_versions_of_racing_processes_are_distinct_and_never_mixed(
    kind: str,
    writers: int,
    versions: int,
    threads: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = place(kind, request, tmp_path, monkeypatch)
    processes = [writer(url, tmp_path, n * threads, versions, threads) for n in range(writers)]
    wait_for(tmp_path, writers)
    (tmp_path / "start").touch()
    assert [process.wait(timeout=240) for process in processes] == [0] * writers
    lake = open_lake(url)
    committed = lake.versions("p", "raw_data")
    assert committed == [f"{n:010d}" for n in range(1, writers * threads * versions + 1)]
    assert sorted(assert_whole(lake, version) for version in committed) == sorted(
        list(range(writers * threads)) * versions
    )
    tables = [lake.open("p", "raw_data", v).manifest.table for v in committed]
    assert len({table.delta_version for table in tables if table}) == writers * threads * versions


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_killed_writer_leaves_every_committed_version_readable_and_nothing_half_visible(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(7)
    url = place(kind, request, tmp_path, monkeypatch)
    lake = open_lake(url)
    lake.write("p", "raw_data", contents(0), run_id="0")
    known = lake.versions("p", "raw_data")
    with nursery(url) as new:
        for number in range(1, KILLS + 1):
            victim = new(number)
            time.sleep(chance.uniform(0, LONGEST[kind]))
            os.kill(victim, signal.SIGKILL)
            # It may have given away its last request: what is committed then is committed.
            committed = lake.versions("p", "raw_data")
            assert set(known) <= set(committed)
            known = committed
    time.sleep(1)
    known = lake.versions("p", "raw_data")
    assert len(known) > KILLS / 10
    for version in known:
        assert_whole(lake, version)
    claimed = lake.backend.folders("p/files/raw_data")
    assert set(known) < set(claimed), "no kill hit a writer at work: the test proves nothing"
    after = lake.write("p", "raw_data", Contents(pl.LazyFrame({"a": [1]})))
    assert after.version == f"{max(map(int, claimed)) + 1:010d}"
    assert lake.latest("p", "raw_data") == after.version
    assert after.table.to_polars().to_dicts() == [{"a": 1}]
    assert not verify(lake, "p").damage


def test_versions_come_in_the_order_of_their_numbers_whatever_the_clocks_say(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(datetime):
        days = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Late:
            moment = datetime.now(tz) + timedelta(days=cls.days)
            return cls.fromtimestamp(moment.timestamp(), tz)

    monkeypatch.setattr("etl_ml.lake.lake.datetime", Late)
    for Late.days in (1, -1, 0):
        lake.write("p", "a", Contents(files={"x.json": {"days": Late.days}}))
    assert lake.read("p", "a", "x.json") == {"days": 0}
    assert [lake.read("p", "a", "x.json", v)["days"] for v in (1, 2, 3)] == [1, -1, 0]
