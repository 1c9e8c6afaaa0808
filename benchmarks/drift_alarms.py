"""How often drift is called where there is none, and found where there is some.

python benchmarks/drift_alarms.py [--pairs 400]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from measure import print_table
from scipy import stats

from etl_ml.spec import Pipeline, parse
from etl_ml.validate import drift

Columns = dict[str, Any]
KINDS = ("float", "integer", "category")


def pipeline_of(**columns: str) -> Pipeline:
    contract = {name: {"type": kind} for name, kind in columns.items()} | {"y": {"type": "integer"}}
    return parse(
        {
            "name": "bench",
            "source": {"type": "file", "path": "x.csv"},
            "contract": {"columns": contract},
            "target": {"column": "y"},
        },
        file="benchmark",
    )


def frame(prefix: str, columns: Columns) -> pl.LazyFrame:
    n = len(next(iter(columns.values())))
    rows = pl.int_range(n, eager=True).cast(pl.String)
    return pl.LazyFrame(
        {**columns, "y": np.arange(n) % 2, "_etl_ml_row": rows.str.zfill(31).str.head(31) + prefix}
    )


def compared(new: Columns, old: Columns, pipeline: Pipeline) -> dict[str, Any]:
    return drift(frame("n", new), frame("o", old), pipeline, version="1")


def mixed(rng: np.random.Generator, n: int) -> Columns:
    """30 columns: normal numbers, counts, and categories of four levels."""
    make: list[Callable[[], Any]] = [
        lambda: rng.normal(size=n),
        lambda: rng.poisson(3, n),
        lambda: rng.choice(list("abcd"), n),
    ]
    return {f"x{i}": make[i % 3]() for i in range(30)}


def naive(new: Columns, old: Columns) -> bool:
    """What tutorials do: KS p < 0.05 on any column (here of the numbers' 20)."""
    numbers = [name for name, values in new.items() if values.dtype.kind in "fi"]
    return any(stats.ks_2samp(new[n], old[n], method="asymp").pvalue < 0.05 for n in numbers)


def upper(found: int, of: int) -> float:
    """The upper 95 % bound of a share, exact (Clopper and Pearson 1934)."""
    interval = stats.binomtest(found, of).proportion_ci(confidence_level=0.95, method="exact")
    return float(interval.high)


def main(pairs: int) -> None:
    undrifted = pipeline_of(**{f"x{i}": KINDS[i % 3] for i in range(30)})
    sizes, ours, theirs = (250, 500, 1000, 2000), 0, 0
    for seed in range(pairs):
        rng = np.random.default_rng([1, seed])
        n = sizes[seed % len(sizes)]
        new, old = mixed(rng, n), mixed(rng, 4 * n)
        ours += compared(new, old, undrifted)["drifted"]
        theirs += naive(new, old)

    levels = many = 0
    for seed in range(100):
        rng = np.random.default_rng([2, seed])
        old, new = ({"x0": rng.integers(0, 1000, 2000).astype(str)} for _ in "ab")
        levels += compared(new, old, pipeline_of(x0="string"))["drifted"]

    for seed in range(100):
        rng = np.random.default_rng([3, seed])
        old = {f"x{i}": rng.normal(size=50_000) for i in range(3)}
        new = {k: np.r_[v[500:], rng.normal(2 * (k == "x0"), 1, 500)] for k, v in old.items()}
        known, here = frame("o", old), frame("o", new)
        ids = pl.Series([f"{i:031d}o" for i in [*range(500, 50_000), *range(60_000, 60_500)]])
        here = here.with_columns(ids.alias("_etl_ml_row"))
        known = known.with_columns(
            pl.Series([f"{i:031d}o" for i in range(50_000)]).alias("_etl_ml_row")
        )
        told = drift(here, known, pipeline_of(x0="float", x1="float", x2="float"), version="1")
        many += told["columns"]["x0"]["drifted"] and told["rows_compared"] == 500

    half = 0
    numbers = pipeline_of(**{f"x{i}": "float" for i in range(30)})
    for seed in range(100):
        rng = np.random.default_rng([4, seed])
        old, new = ({f"x{i}": rng.normal(size=2000) for i in range(30)} for _ in "ab")
        new["x7"] += 0.5
        half += compared(new, old, numbers)["columns"]["x7"]["drifted"]

    small = 0
    for seed in range(10):
        rng = np.random.default_rng([5, seed])
        old, new = {"x0": rng.normal(size=10**6)}, {"x0": rng.normal(0.02, 1, 10**6)}
        small += compared(new, old, pipeline_of(x0="float"))["drifted"]

    print_table(
        "Drift",
        [
            ["", "alarms", "upper 95 %", "bar"],
            ["30 undrifted columns", f"{ours} of {pairs}", f"{upper(ours, pairs):.1%}", "≤ 8 %"],
            ["  KS p < 0.05 on any", f"{theirs} of {pairs}", f"{upper(theirs, pairs):.1%}", ""],
            ["1,000 undrifted levels, n = 2,000", f"{levels} of 100", "", "0"],
            ["500 new of 50,000 shifted by 2 sd", f"{many} of 100", "", "100"],
            ["0.5 sd in 1 of 30 columns, n = 2,000", f"{half} of 100", "", "≥ 95"],
            ["0.02 sd, n = 1,000,000", f"{small} of 10", "", "0"],
        ],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=400)
    main(parser.parse_args().pairs)
