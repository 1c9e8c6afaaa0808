"""A MariaDB table to Arrow, against `pandas.read_sql` of the whole of it.

    python benchmarks/extract.py sql [--rows N]

Each in a process of its own, with imports that are not counted, from one server on this machine.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from measure import against, measure, print_table

if TYPE_CHECKING:
    from etl_ml_tests.servers.mariadb import MariaDB

_PEER_SETUP = """
import pandas as pd
import pymysql, sqlalchemy
engine = sqlalchemy.create_engine(URL)
"""
_PEER = """
frame = pd.read_sql("SELECT * FROM bench", engine)
assert frame.shape == (ROWS, 31), frame.shape
"""
_SETUP = """
import connectorx, pyarrow, pyarrow.compute, pymysql, sqlalchemy
from etl_ml.extract.sql import open_sql
from etl_ml.spec.contract import Contract
from etl_ml.spec.source import SqlSource
source = SqlSource(type="sql", url=URL, table="bench")
contract = Contract.model_validate({"columns": {"i0": {"type": "integer"}}})
"""
_OURS = """
reader, rows = open_sql(source, contract, (), None), 0
assert len(reader.schema) == 32, reader.schema  # 31, and the place for what no type can hold
for batch in reader:
    rows += batch.num_rows
assert rows == ROWS, rows
"""
_TYPES = {"i": ("INT", 10), "f": ("DOUBLE", 10), "s": ("VARCHAR(20)", 7), "d": ("DATETIME", 4)}
_BLOCK = 250_000


def fill(server: MariaDB, folder: Path, rows: int) -> None:
    """31 columns of random values; `i0` is the key."""
    columns = [f"{k}{n} {kind}" for k, (kind, count) in _TYPES.items() for n in range(count)]
    rng, path = np.random.default_rng(0), folder / "rows.csv"
    with server.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE bench ({', '.join(columns)}, PRIMARY KEY (i0))")
        for start in range(0, rows, _BLOCK):
            n = min(_BLOCK, rows - start)
            words = ["red", "green", "blue", "a longer text"]
            block = {"i0": np.arange(start, start + n)}
            block |= {f"i{k}": rng.integers(0, 100_000, n) for k in range(1, 10)}
            block |= {f"f{k}": rng.random(n) for k in range(10)}
            block |= {f"s{k}": rng.choice(words, n) for k in range(7)}
            seconds = rng.integers(0, 10**9, (4, n)) * 1000
            block |= {f"d{k}": seconds[k].astype("datetime64[ms]") for k in range(4)}
            frame = pl.DataFrame(block)
            frame.write_csv(path, include_header=False, datetime_format="%Y-%m-%d %H:%M:%S")
            cursor.execute(
                f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE bench FIELDS TERMINATED BY ','"
            )
        cursor.execute("ANALYZE TABLE bench")


def main(rows: int) -> None:
    sys.path.append(str(Path(__file__).parents[1]))  # the tests are not installed
    from etl_ml_tests.servers.mariadb import MariaDB

    with tempfile.TemporaryDirectory() as folder:
        server = MariaDB(Path(folder))
        server.prepare()
        server.start()
        try:
            fill(server, Path(folder), rows)
            known = f"URL, ROWS = '{server.url}', {rows}\n"
            driver = known.replace("mysql://", "mysql+pymysql://")
            ours = measure(_OURS, setup=known + _SETUP)
            peer = measure(_PEER, setup=driver + _PEER_SETUP)
        finally:
            server.kill()
    speed = [f"{rows / cost.wall:,.0f}" for cost in (peer, ours)]
    print_table(
        f"MariaDB, {rows:,} rows of 31 columns",
        [
            ["", "rows/s", "more", "CPU s", "less", "peak MB", "less"],
            ["pandas.read_sql", speed[0], "", f"{peer.cpu:.1f}", "", f"{peer.rss:,.0f}", ""],
            ["etl_ml", speed[1], f"{peer.wall / ours.wall:.1f} ×", *against(peer, ours)],
        ],
    )
