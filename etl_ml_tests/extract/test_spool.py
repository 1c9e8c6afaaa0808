"""Rows on disk between the source and the lake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl

from etl_ml.extract.spool import Spool

FULL = """
import resource, signal, sys
import pyarrow as pa
from etl_ml.extract.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
batch = pa.RecordBatch.from_pydict({"a": [str(i * i) for i in range(100_000)]})
spool = Spool(batch.schema)
try:
    spool.add(batch)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_what_is_set_down_comes_back_as_often_as_it_is_asked_for() -> None:
    frame = pl.DataFrame({"a": range(1000), "b": ["x", None] * 500})
    spool = Spool(frame.to_arrow().schema)
    for batch in frame.to_arrow().to_batches(max_chunksize=300):
        spool.add(batch)
    spool.close()
    assert spool.rows == 1000
    for _ in range(2):
        assert pl.concat(pl.DataFrame(batch) for batch in spool).equals(frame)


def test_a_full_disk_is_told() -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout.startswith("SourceError the temporary folder is full after 0 rows"), run
