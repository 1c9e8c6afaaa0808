"""A process of its own that writes into a lake, for the tests that race and kill writers.

`python -m etl_ml_tests.lake.writer_process LAKE NUMBER VERSIONS START THREADS`: waits for the file
START, then writes that many versions (for ever when 0) in each thread, a table and two files that
hold NUMBER, or in the other threads the numbers after it.

`python -m etl_ml_tests.lake.writer_process LAKE`: makes a writer, which writes for ever, of each
number that it is told on its standard input, and tells its process id. They are copies of one
process that has imported everything and started no thread: to import takes longer than to write.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl

from etl_ml.lake import Contents, Lake, open_lake

ROWS = 40


def contents(number: int) -> Contents:
    rows = pl.LazyFrame(
        {"_etl_ml_row": [f"{number}-{i}" for i in range(ROWS)], "by": [number] * ROWS}
    )
    return Contents(rows, {"by.json": {"by": number}, "by.npy": np.full(20_000, number)})


def main(url: str, number: int, versions: int, start: Path, threads: int) -> None:
    lake = open_lake(url)
    (start.parent / f"ready-{number}").touch()
    while not start.exists():
        time.sleep(0.005)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(partial(write, lake, versions), range(number, number + threads)))


def nursery(url: str) -> None:
    import deltalake  # noqa: F401
    import obstore  # noqa: F401
    import pymongo  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        if child := os.fork():
            print(child, flush=True)
        else:
            write(open_lake(url), 0, int(line))


def write(lake: Lake, versions: int, number: int) -> None:
    for i in count():
        if versions and i >= versions:
            return
        lake.write("p", "raw_data", contents(number), run_id=str(number))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        nursery(sys.argv[1])
        sys.exit()
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
