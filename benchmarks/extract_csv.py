"""CSV to Arrow, every cell as text and every row as long as the header, against Polars' own reader.

    python benchmarks/extract.py csv [--rows N]

Polars turns a row that is too short into nulls; here it is an error with its line.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from measure import measure, print_table

_SETUP = "import polars as pl\n"
_PEER = "assert pl.read_csv({path!r}, infer_schema=False).height == {rows}"
_OURS_SETUP = """
from pathlib import Path
import pyarrow.csv
from etl_ml.extract.csv import CsvFile
"""
_OURS = "assert sum(batch.num_rows for batch in CsvFile(Path({path!r}))) == {rows}"
_BLOCK = 500_000


def write(path: Path, rows: int) -> None:
    """31 columns: integers, floats, texts and moments."""
    rng = np.random.default_rng(0)
    with path.open("wb") as sink:
        for start in range(0, rows, _BLOCK):
            n = min(_BLOCK, rows - start)
            seconds = rng.integers(0, 10**7, (4, n)) * 10**6
            words = ["red", "green", "blue", "a longer text"]
            block = {f"i{k}": rng.integers(0, 100_000, n) for k in range(10)}
            block |= {f"f{k}": rng.random(n).round(6) for k in range(10)}
            block |= {f"s{k}": rng.choice(words, n) for k in range(7)}
            block |= {f"d{k}": seconds[k].astype("datetime64[us]") for k in range(4)}
            pl.DataFrame(block).write_csv(sink, include_header=start == 0)


def main(rows: int) -> None:
    table = [["", "rows", "CPU s", "against Polars", "peak MB"]]
    with tempfile.TemporaryDirectory() as folder:
        for count in (rows, 10 * rows):
            path = Path(folder) / "rows.csv"
            write(path, count)
            given = {"path": str(path), "rows": count}
            if count == rows:
                peer = measure(_PEER.format(**given), setup=_SETUP)
                cells = [f"{rows:,}", f"{peer.cpu:.2f}", "", f"{peer.rss:,.0f}"]
                table.append(["pl.read_csv(infer_schema=False)", *cells])
            ours = measure(_OURS.format(**given), setup=_OURS_SETUP)
            ratio = f"{ours.cpu / peer.cpu:.2f} ×" if count == rows else ""
            table.append(["etl_ml", f"{count:,}", f"{ours.cpu:.2f}", ratio, f"{ours.rss:,.0f}"])
    print_table("CSV of 31 columns", table)
