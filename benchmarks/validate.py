"""What validation, profile and drift cost, with the write of validated_data.

python benchmarks/validate.py [--rows 1000000] [--peers]

Against pyarrow's reading of the same Parquet; with --peers also against Great Expectations (the
same checks) and whylogs (its profile), each in a virtual environment of its own, which is made
beside this repository's. 20 floats with 3 % nulls, 6 integers, 4 texts of 10 to 100,000 levels, a
target; every measurement in a fresh process, imports not
counted; ours and pyarrow's are the median of five.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import Cost, measure, print_table

from etl_ml.lake import Contents, open_lake
from etl_ml.lake.identity import ROW, hash_rows

BATCH = 100_000
LEVELS = (10, 50, 1_000, 100_000)
FLOATS = [f"f{i}" for i in range(20)]
INTEGERS = [f"i{i}" for i in range(6)]
TEXTS = [f"s{n}" for n in LEVELS]


class Rows:
    """Seeded rows, batch by batch, as extraction writes them."""

    def __init__(self, rows: int, seed: int) -> None:
        self._rows, self._seed = rows, seed
        self.schema = self._batch(0, 1).schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for start in range(0, self._rows, BATCH):
            yield self._batch(start, min(BATCH, self._rows - start))

    def _batch(self, start: int, n: int) -> pa.RecordBatch:
        rng = np.random.default_rng([self._seed, start])
        columns: dict[str, Any] = {}
        for i, name in enumerate(FLOATS):
            columns[name] = pa.array(rng.normal(i, 1 + i, n), mask=rng.random(n) < 0.03)
        for i, name in enumerate(INTEGERS):
            columns[name] = pa.array(rng.integers(0, 10 ** (i + 1), n))
        for levels, name in zip(LEVELS, TEXTS, strict=True):
            known = pa.array([f"level {k}" for k in range(levels)])
            columns[name] = known.take(pa.array(rng.integers(0, levels, n)))
        columns["y"] = pa.array(rng.integers(0, 2, n))
        batch = pa.RecordBatch.from_pydict(columns)
        hashes = [digest.hex() for digest in hash_rows(batch, batch.schema.names).tolist()]
        # A digest that ends with a zero byte is shorter as numpy gives it.
        identities = pa.array([f"{digest:0<32}-0" for digest in hashes])
        return batch.append_column(ROW, identities).append_column(
            "_etl_ml_original", pa.nulls(n, pa.string())
        )


def contract() -> dict[str, Any]:
    """For every column what the peers check too."""
    columns: dict[str, Any] = {n: {"type": "float", "min": -1000, "max": 1000} for n in FLOATS}
    number = {"type": "integer", "min": 0, "max": 1_000_000, "nullable": False}
    text = {"type": "string", "pattern": "^level ", "max_length": 20, "nullable": False}
    columns |= dict.fromkeys(INTEGERS, number) | dict.fromkeys(TEXTS, text)
    return columns | {"y": {"type": "integer", "allowed": [0, 1], "nullable": False}}


OURS = """
import tempfile
from pathlib import Path
import deltalake, narwhals, numpy, obstore, polars, pyarrow, scipy.stats
from etl_ml.lake import Contents, open_lake
from etl_ml.spec import parse
from etl_ml.validate import drift, validate
pipeline = parse(dict(name="bench", source=dict(type="file", path="x.parquet"),
    contract=dict(columns={columns}), target=dict(column="y")), file="benchmark")
lake = open_lake({lake!r})
"""
RUN_OURS = """
with tempfile.TemporaryDirectory() as folder:
    reference = lake.open("bench", "raw_data", 1).table.scan()
    found = validate(lake.open("bench", "raw_data", 2).table.scan(), pipeline, folder=Path(folder))
    told = drift(found.valid, reference, pipeline, version="1", sample=found.sample)
    lake.write("bench", "validated_data", Contents(found.valid_file))
    lake.write("bench", "quarantined_data", Contents(found.quarantined))
assert found.passed and not told["drifted"], (found.problems, told["verdict"])
"""
READ_PANDAS = "frame = pd.concat([pd.read_parquet(f, columns={names}) for f in {files}])"
GREAT_EXPECTATIONS = """
import os
os.environ["GX_ANALYTICS_ENABLED"] = "false"
import great_expectations as gx, pandas as pd
from great_expectations import expectations as gxe
"""
RUN_GREAT_EXPECTATIONS = """
{read}
context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = dict(globally=False)
asset = context.data_sources.add_pandas("p").add_dataframe_asset("a")
suite = gx.ExpectationSuite(name="s")
for name, rules in {columns}.items():
    kind = dict(float="float64", integer="int64", string="str")[rules["type"]]
    suite.add_expectation(gxe.ExpectColumnValuesToBeOfType(column=name, type_=kind))
    if not rules.get("nullable", True):
        suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=name))
    if "min" in rules:
        suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(
            column=name, min_value=rules["min"], max_value=rules["max"]))
    if "allowed" in rules:
        suite.add_expectation(
            gxe.ExpectColumnValuesToBeInSet(column=name, value_set=rules["allowed"]))
    if "pattern" in rules:
        suite.add_expectation(
            gxe.ExpectColumnValuesToMatchRegex(column=name, regex=rules["pattern"]))
        suite.add_expectation(
            gxe.ExpectColumnValueLengthsToBeBetween(column=name, max_value=rules["max_length"]))
batch = asset.add_batch_definition_whole_dataframe("b").get_batch(dict(dataframe=frame))
found = batch.validate(suite)
assert found.success, found
"""
RUN_WHYLOGS = """
{read}
view = why.log(pandas=frame).profile().view()
assert len(view.get_columns()) == frame.shape[1]
"""


def main(rows: int, *, peers: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: the peak memory of a process counts what its parent had.
        written = [sys.executable, __file__, "--rows", str(rows), "--write", folder]
        subprocess.run(written, check=True)
        table = open_lake(folder).open("bench", "raw_data", 2).table
        files = [str(p) for p in _files(Path(folder), table.rows)]
        names = [*contract()]
        read = READ_PANDAS.format(names=names, files=files)
        run = f"tables = [pq.read_table(f) for f in {files}]"
        found: dict[str, Cost] = {
            "pyarrow: read": _median(run, "import pyarrow.parquet as pq"),
            "etl_ml: validate, profile, drift, write": _median(
                RUN_OURS, OURS.format(columns=contract(), lake=folder)
            ),
        }
        if peers:
            code = RUN_GREAT_EXPECTATIONS.format(read=read, columns=contract())
            python, version = _peer("great_expectations")
            found[f"Great Expectations {version}: read, the same checks"] = measure(
                code, setup=GREAT_EXPECTATIONS, python=python
            )
            python, version = _peer("whylogs")
            found[f"whylogs {version}: read, profile"] = measure(
                RUN_WHYLOGS.format(read=read),
                setup="import pandas as pd, whylogs as why",
                python=python,
            )
    ours = found["etl_ml: validate, profile, drift, write"]
    lines = [
        [name, f"{c.cpu:.1f}", f"{c.wall:.1f}", f"{c.rss:,.0f}", f"{c.cpu / ours.cpu:.2f} ×"]
        for name, c in found.items()
    ]
    head = ["", "CPU s", "wall s", "peak MB", "CPU over ours"]
    print_table(f"{rows:,} rows × 31 columns", [head, *lines])
    read_cost = found["pyarrow: read"]
    print(f"ours over pyarrow's read: {ours.cpu / read_cost.cpu:.2f} × (at most 2.5)")


def _median(code: str, setup: str) -> Cost:
    """The middle one of five, by CPU time: a second's work is at the mercy of its neighbours."""
    costs = sorted((measure(code, setup=setup) for _ in range(5)), key=lambda cost: cost.cpu)
    return costs[2]


def write(rows: int, lake: str) -> None:
    """The reference, and the rows that are validated."""
    for seed in (1, 2):
        open_lake(lake).write("bench", "raw_data", Contents(Rows(rows, seed)))


def _files(folder: Path, rows: int) -> list[Path]:
    """The Parquet files of the newest version: each has been written after those before it."""
    every = sorted(
        (folder / "bench/tables/raw_data").glob("*.parquet"), key=lambda p: p.stat().st_mtime
    )
    taken: list[Path] = []
    while sum(pq.read_metadata(p).num_rows for p in taken) < rows:
        taken.append(every.pop())
    return taken


def _peer(package: str) -> tuple[str, str]:
    """A virtual environment's Python with a peer in it, and the peer's version."""
    home = Path(__file__).parents[1] / f".venv-{package}"
    python = str(home / "bin" / "python")
    if not Path(python).exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        install = [python, "-m", "pip", "install", "--quiet", package, "pandas<3", "pyarrow"]
        subprocess.run(install, check=True)
    code = f"from importlib.metadata import version; print(version({package!r}))"
    told = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return python, told.stdout.strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peers", action="store_true", help="Great Expectations and whylogs too")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        write(given.rows, given.write)
    else:
        main(given.rows, peers=given.peers)
