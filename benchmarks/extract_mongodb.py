"""MongoDB to Arrow, against `pd.DataFrame(list(collection.find()))`.

    python benchmarks/extract.py mongodb [--rows N]

Both talk to a server that replays BSON made beforehand, in a process of its own. Imports are not
counted on either side.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from measure import against, measure, print_table

_PEER = """
frame = pd.DataFrame(list(MongoClient(URI).bench.loans.find(batch_size=10_000)))
assert frame.shape == (ROWS, 31)
"""
_IMPORTS = """
import pandas as pd
from pymongo import MongoClient
"""
_OURS = """
found = extract(source, base=Path(), contract=contract, primary_key=("_id",))
rows = sum(batch.num_rows for batch in found.rows)
assert rows == ROWS, rows
"""
_LAKE = """
found = extract(source, base=Path(), contract=contract, primary_key=("_id",))
with tempfile.TemporaryDirectory() as folder:
    version = open_lake(folder).write("bench", "raw_data", Contents(found.rows))
    assert version.table.rows == ROWS
"""
_SETUP = """
import tempfile
from pathlib import Path
import deltalake, polars, pyarrow, pyarrow.compute, pymongo, pymongoarrow.api
from etl_ml.extract import extract
from etl_ml.lake import Contents, open_lake
from etl_ml.spec.contract import Column, Contract
from etl_ml.spec.source import MongoSource
kinds = {"i": ("integer", 10), "f": ("float", 10), "s": ("string", 6)}
kinds |= {"d": ("datetime", 2), "b": ("boolean", 2)}
columns = {f"{k}{n}": Column(type=kind) for k, (kind, count) in kinds.items() for n in range(count)}
contract = Contract(columns=columns)
source = MongoSource(type="mongodb", uri=URI, database="bench", collection="loans")
"""


def main(rows: int) -> None:
    replay = Path(__file__).parent / "replay.py"
    server = subprocess.Popen(
        [sys.executable, str(replay), str(rows)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout
        known = f"URI, ROWS = 'mongodb://127.0.0.1:{int(server.stdout.readline())}', {rows}\n"
        peer = measure(_PEER, setup=known + _IMPORTS)
        ours = measure(_OURS, setup=known + _SETUP)
        lake = measure(_LAKE, setup=known + _SETUP)
    finally:
        server.kill()
        server.wait()
    print_table(
        f"MongoDB, {rows:,} documents of 31 fields",
        [
            ["", "CPU s", "less", "peak MB", "less"],
            ["DataFrame(list(find()))", f"{peer.cpu:.1f}", "", f"{peer.rss:,.0f}", ""],
            ["etl_ml, to Arrow with row ids", *against(peer, ours)],
            ["etl_ml, into the lake", *against(peer, lake)],
        ],
    )
