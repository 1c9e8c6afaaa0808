"""What loading costs the client, against what people write by hand.

    python benchmarks/load.py [mongodb] [mariadb] [--documents N] [--rows N]

Both sides talk to a real server (those of the tests), in processes of their own; what is counted
is the client's, and imports are not counted on either side. etl_ml reads its rows from the lake;
the peer is handed a DataFrame that is in memory already. MongoDB's rows a second are the test
server's, which takes most of a load's time for the rename of the collection at its end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import Cost, measure, print_table

sys.path.insert(0, str(Path(__file__).parents[1]))

from etl_ml_tests.servers.mariadb import MariaDB
from etl_ml_tests.servers.mongodb import MongoDB

_KINDS = {"integer": 10, "float": 10, "string": 6, "datetime": 2, "boolean": 2}
_LAKE = """
from datetime import UTC, datetime
import numpy as np, polars as pl
from etl_ml.lake import Contents, open_lake
rng = np.random.default_rng(0)
make = dict(
    integer=lambda: rng.integers(0, 1_000_000, ROWS), float=lambda: rng.normal(size=ROWS),
    string=lambda: pl.Series(rng.integers(0, 10**9, ROWS)).cast(pl.String) + " of some text",
    datetime=lambda: pl.Series(rng.integers(10**15, 2 * 10**15, ROWS) // 1000 * 1000).cast(
        pl.Datetime("us", "UTC")),
    boolean=lambda: rng.random(ROWS) < 0.5,
)
data = {f"{k}{n}": make[k]() for k, count in KINDS.items() for n in range(count)}
data["_etl_ml_row"] = [f"{i:032x}-0" for i in range(ROWS)]
open_lake(FOLDER).write("bench", "clean_data", Contents(pl.DataFrame(data).lazy()))
"""
_OURS = """
from pathlib import Path
import deltalake, pandas, polars, pyarrow, pyarrow.compute, pyarrow.parquet
import pymongo, pymysql, sqlalchemy
from etl_ml.lake import open_lake
from etl_ml.load import load
from etl_ml.load import mongodb, mysql, sql, bson_rows
from etl_ml.spec.contract import Column, Contract
from etl_ml.spec.destination import MongoDestination, SqlDestination
contract = Contract(columns={
    f"{k}{n}": Column(type=k) for k, count in KINDS.items() for n in range(count)})
version = open_lake(FOLDER).open("bench", "clean_data")
to = TO
"""
_PEER = """
import pandas as pd, polars as pl, pymongo, sqlalchemy, pymysql
from etl_ml.lake import open_lake
frame = open_lake(FOLDER).open("bench", "clean_data").table.scan().collect().to_pandas()
if URI.startswith("mongodb"):  # etl_ml's documents have the row's identity as their `_id`
    frame = frame.rename(columns={"_etl_ml_row": "_id"})
"""
_LOAD = "assert load(version, to, contract=contract).rows == ROWS"
_INSERT_MANY = "pymongo.MongoClient(URI).bench.peer.insert_many(frame.to_dict('records'))"
_TO_SQL = "frame.to_sql('peer', sqlalchemy.create_engine(URI), index=False)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", default=["mongodb", "mariadb"])
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=200_000)
    given = parser.parse_args()
    if "mongodb" in given.parts:
        mongodb(given.documents)
    if "mariadb" in given.parts:
        mariadb(given.rows)


def mongodb(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = MongoDB(Path(folder))
        server.prepare()
        server.start()
        to = f"MongoDestination(type='mongodb', uri={server.uri!r}, database='b', collection='c')"
        try:
            peer, ours = _both(rows, Path(folder), server.uri, to, _INSERT_MANY)
        finally:
            server.kill()
    _tell(f"MongoDB, {rows:,} documents of 31 fields", "insert_many(to_dict())", rows, peer, ours)


def mariadb(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = MariaDB(Path(folder))
        server.prepare()
        server.start()
        to = f"SqlDestination(type='sql', url={server.url!r}, table='ours')"
        uri = server.url.replace("mysql://", "mysql+pymysql://")
        try:
            peer, ours = _both(rows, Path(folder), uri, to, _TO_SQL)
        finally:
            server.kill()
    _tell(f"MariaDB, {rows:,} rows of 31 columns", "DataFrame.to_sql()", rows, peer, ours)


def _both(rows: int, folder: Path, uri: str, to: str, peer: str) -> tuple[Cost, Cost]:
    known = f"ROWS, URI, FOLDER, KINDS = {rows}, {uri!r}, {str(folder / 'lake')!r}, {_KINDS!r}\n"
    measure(_LAKE, setup=known)
    ours = measure(_LOAD, setup=known + _OURS.replace("TO\n", f"{to}\n"))
    return measure(peer, setup=known + _PEER), ours


def _tell(title: str, name: str, rows: int, peer: Cost, ours: Cost) -> None:
    def row(name: str, cost: Cost, less: str, faster: str) -> list[str]:
        return [name, f"{cost.cpu:.2f}", less, f"{rows / cost.wall:,.0f}", faster]

    print_table(
        title,
        [
            ["", "client's CPU s", "less", "rows/s", "faster"],
            row(name, peer, "", ""),
            row("etl_ml", ours, f"{peer.cpu / ours.cpu:.1f} ×", f"{peer.wall / ours.wall:.1f} ×"),
        ],
    )


if __name__ == "__main__":
    main()
