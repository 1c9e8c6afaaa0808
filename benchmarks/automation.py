"""How soon what is inserted is in the lake, and what looking for it costs.

    python benchmarks/automation.py [--documents N]

A real daemon looks at a real collection every five seconds: from the insert of 1,000 documents
until `raw_data` is committed with them. And the CPU of one look, behind an index, as the collection
grows: of the sensor's process, whose part is one count that the server answers.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from measure import print_table

sys.path.append(str(Path(__file__).parents[1]))  # the tests are not installed

_EVERY, _NEW, _TIMES, _LOOKS = 5, 1_000, 5, 10
_PIPELINE: dict[str, Any] = {
    "name": "loans",
    "contract": {"columns": {"n": {"type": "integer"}, "y": {"type": "integer"}}},
    "target": {"column": "y"},
    "training": {"candidates": ["logistic_regression"], "folds": 2},
}


def main(documents: int) -> None:
    from etl_ml_tests.servers.mongodb import MongoDB

    with tempfile.TemporaryDirectory() as folder:
        server = MongoDB(Path(folder) / "mongodb")
        server.folder.mkdir()
        server.start()
        try:
            soon = [_insert_to_commit(server, Path(folder) / "soon")]
            rows = [["", "median s", "largest s", "bar s"], *soon]
            print_table(f"From the insert of {_NEW:,} documents to raw_data", rows)
            table = [["documents", "CPU ms a look", "largest", "bar", "wall ms a look"]]
            sizes = [size for size in (10_000, 100_000, 1_000_000, 10_000_000) if size <= documents]
            for size in sizes:
                table.append(_looks(server, Path(folder) / str(size), size))
            print_table("A look of the sensor, of the rows that are behind the last commit", table)
        finally:
            server.kill()


def _insert_to_commit(server: Any, root: Path) -> list[str]:
    from etl_ml_tests.servers.daemon import Daemon, until

    with _collection(server, "soon", 2_000) as collection:
        made = _project(root, server, "soon", every_seconds=_EVERY, min_rows=100)
        daemon = Daemon(made)
        assert made.materialize(instance=daemon.instance).success
        daemon.start()
        seconds = []
        try:
            until(lambda: bool(daemon.skips("loans_new_data")), 120, daemon.log)
            for number in range(_TIMES):
                expected = 2_000 + (number + 1) * _NEW
                first = 2_000 + number * _NEW
                collection.insert_many(list(_documents(first, _NEW)))
                start = time.monotonic()
                until(lambda: _rows(made) == expected, 120, daemon.log)  # noqa: B023
                seconds.append(time.monotonic() - start)
                until(
                    lambda: all(r.is_finished for r in daemon.instance.get_runs()), 120, daemon.log
                )
        finally:
            daemon.stop()
    shown = [statistics.median(seconds), max(seconds)]
    return [f"sensor every {_EVERY} s", *(f"{s:.1f}" for s in shown), f"{_EVERY + 5}"]


def _looks(server: Any, root: Path, size: int) -> list[str]:
    from etl_ml_tests.orchestration.ticks import ticking

    name = f"n{size}"
    with _collection(server, name, size) as collection:
        made = _project(root, server, name, every_seconds=30, min_rows=1_000_000)
        assert made.materialize().success
        collection.insert_many(list(_documents(size, 500)))
        cpu, wall = [], []
        with ticking(made) as ticks:
            ticks.reason()
            for _ in range(_LOOKS):
                before, start = _cpu(), time.perf_counter()
                told = ticks.reason()
                cpu.append((_cpu() - before) * 1e3)
                wall.append((time.perf_counter() - start) * 1e3)
                assert told.startswith("500 new documents"), told
    shown = [statistics.median(cpu), max(cpu)]
    return [f"{size:,}", *(f"{ms:.0f}" for ms in shown), "200", f"{statistics.median(wall):.0f}"]


@contextmanager
def _collection(server: Any, name: str, size: int) -> Iterator[Any]:
    with server.client() as client:
        collection = client.bench[name]
        collection.create_index("at")
        for first in range(0, size, 10_000):
            collection.insert_many(list(_documents(first, min(10_000, size - first))))
        yield collection


def _documents(first: int, count: int) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC)
    return ({"n": n, "y": n % 2, "at": now} for n in range(first, first + count))


def _project(root: Path, server: Any, name: str, **new_data: Any) -> Any:
    from etl_ml_tests.project import Project

    project = Project(root)
    source = {"type": "mongodb", "uri": server.uri, "database": "bench", "collection": name}
    columns = {**_PIPELINE["contract"]["columns"], "at": {"type": "datetime"}}
    project.add(
        _PIPELINE
        | {"source": source | {"incremental": {"cursor": "at"}}}
        | {"contract": {"columns": columns}, "cleaning": {"drop_columns": ["at"]}}
        | {"automation": {"new_data": {"max_wait_seconds": 3600, **new_data}}}
    )
    return project


def _rows(project: Any) -> int:
    return int(project.lake.table("loans", "raw_data").rows)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    main(parser.parse_args().documents)
