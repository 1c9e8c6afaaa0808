"""What watching costs: live rows that are counted, and scrapes of a lake with many pipelines.

    python benchmarks/monitoring.py [--rows N] [--pipelines N]

Live rows stand beside a histogram of prometheus_client for each column, which counts one value at a
time, and beside a dictionary that only remembers them. Scrapes stand beside an exporter that reads
every report each time.
"""

from __future__ import annotations

import argparse
import tempfile

from measure import Cost, measure, print_table

# One thread, as in the service.
_ROWS = """
import os
os.environ["POLARS_MAX_THREADS"] = "1"
import numpy as np, polars as pl
from etl_ml.monitor.served import Part, Reference
from etl_ml.spec import Column
from etl_ml.validate.profile import profile
from prometheus_client import CollectorRegistry, Counter, Histogram

rng = np.random.default_rng(0)
numbers, levels = [f"n{{i}}" for i in range(20)], [f"c{{i}}" for i in range(10)]
columns = {{n: Column(type="float") for n in numbers}}
columns |= {{c: Column(type="category") for c in levels}}
frame = pl.DataFrame(
    {{n: rng.normal(size=5000) for n in numbers}}
    | {{c: rng.choice(list("abcdefgh"), 5000) for c in levels}}
)
reference = Reference(columns, profile(frame.lazy(), columns).report())
rows = [{{name: [cell] for name, cell in row.items()}} for row in frame.to_dicts()]
rows = (rows * (1 + {rows} // len(rows)))[:{rows}]
registry = CollectorRegistry()
edges = np.linspace(-3, 3, 100).tolist()
histograms = {{n: Histogram(n, n, buckets=edges, registry=registry) for n in numbers}}
counters = {{c: Counter(c, c, ["level"], registry=registry) for c in levels}}
"""
_OURS = """
total = reference.nothing()
for start in range(0, len(rows), {batch}):
    total.add(reference.count([Part(row, 1) for row in rows[start : start + {batch}]]))
assert total.rows == len(rows)
"""
_PEER = """
for row in rows:
    for name, histogram in histograms.items():
        histogram.observe(row[name][0])
    for name, counter in counters.items():
        counter.labels(row[name][0]).inc()
"""

_LAKE = """
from etl_ml.lake import Contents, open_lake
from etl_ml.monitor.metrics import LakeMetrics

lake = open_lake({folder!r})
"""
_WRITE = (
    _LAKE
    + """
column = {{"effect": 0.1, "drifted": False, "nulls": {{"effect": 0.0}}}}
validation = {{"rows": 9, "valid_rows": 9, "quarantined_rows": 0, "superseded_rows": 0}}
validation |= {{"passed": True, "checks": []}}
drift = {{"drifted": False, "rows_compared": 9}}
drift["columns"] = {{f"c{{i}}": column for i in range(30)}}
files = {{"validation_report.json": validation, "drift_report.json": drift}}
for number in range({pipelines}):
    for asset in ("clean_data", "loaded_data", "trained_model", "transformed_arrays"):
        lake.write(f"p{{number}}", asset, Contents(files={{"a.txt": "x"}}))
    lake.write(f"p{{number}}", "quarantined_data", Contents(files=files))
"""
)
_SCRAPE = "for _ in range(10): metrics.families()"
_ANEW = "for _ in range(10): LakeMetrics(lake).families()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--pipelines", type=int, default=20)
    asked = parser.parse_args()
    setup = _ROWS.format(rows=asked.rows)
    peer = measure(_PEER, setup=setup)

    def told(name: str, cost: Cost) -> list[str]:
        each = f"{cost.cpu / asked.rows * 1e6:.0f}"
        return [name, each, f"{peer.cpu / cost.cpu:.1f} ×"]

    table = [["rows of 30 columns, one a request", "CPU µs a row", "against prometheus_client"]]
    table.append(told("a Histogram or Counter a column", peer))
    for batch in (64, 1024, 4096):
        cost = measure(_OURS.format(batch=batch), setup=setup)
        table.append(told(f"etl_ml, {batch:,} requests at once", cost))
    print_table("Live traffic", table)
    with tempfile.TemporaryDirectory() as folder:
        given = {"folder": folder, "pipelines": asked.pipelines}
        measure("pass", setup=_WRITE.format(**given))
        setup = _LAKE.format(**given)
        anew = measure(_ANEW, setup=setup)
        warm = "metrics = LakeMetrics(lake)\nmetrics.families()\n"
        ours = measure(_SCRAPE, setup=setup + warm)
        rows = [["", "CPU ms a scrape", "wall ms", "against reading all anew"]]
        for name, cost in (("all reports, each time", anew), ("etl_ml, nothing new", ours)):
            cells = [f"{cost.cpu * 100:.0f}", f"{cost.wall * 100:.0f}"]
            rows.append([name, *cells, f"{anew.cpu / cost.cpu:.1f} ×"])
        print_table(f"A scrape of {asked.pipelines} pipelines in a folder", rows)


if __name__ == "__main__":
    main()
