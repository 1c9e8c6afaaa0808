"""What scoring in batches costs beside the model itself; `serve.py` prints it with the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
from measure import Cost, measure, print_table

_MODEL = """
import lightgbm
import polars as pl
from etl_ml.deploy import champion
from etl_ml.lake import open_lake
model = champion(open_lake(), {pipeline!r}).model
rows = pl.read_parquet({rows!r})
"""
_PREDICT = """
import etl_ml.extract.parquet, etl_ml.serve.batch, lightgbm, sklearn.pipeline, skops.io
from etl_ml.cli.predict import predict_file
"""


def batch(table: Callable[[int], pl.DataFrame], root: Path) -> None:
    """Score tables by the champions of `bench` and `keyed` in `root`/lake, Parquet to Parquet."""
    rows, answers = str(root / "rows.parquet"), str(root / "answers.parquet")
    shown = [["", "CPU s", "the model's", "ratio", "bar", "peak MB"]]
    for pipeline, count in (("keyed", 250_000), ("keyed", 1_000_000), ("bench", 1_000_000)):
        given = table(count).drop("y")
        given = given.with_row_index("id") if pipeline == "keyed" else given
        given.write_parquet(rows)
        setup = _MODEL.format(pipeline=pipeline, rows=rows)
        alone = _least("model.predict_proba(rows)", setup, root)
        ours = _least(f"predict_file({pipeline!r}, {rows!r}, {answers!r}, None)", _PREDICT, root)
        told = "with a key" if pipeline == "keyed" else "known by all their cells"
        ratio = f"{ours.cpu / alone.cpu:.2f} ×"
        bar = "1.3" if count == 1_000_000 else ""
        numbers = [f"{ours.cpu:.1f}", f"{alone.cpu:.1f}", ratio, bar, f"{ours.rss:,.0f}"]
        shown.append([f"{count:,} rows, {told}", *numbers])
    print_table("etl-ml predict beside predict_proba of rows in memory (memory: flat)", shown)


def _least(code: str, setup: str, root: Path) -> Cost:
    """The cheapest of three runs: what else the machine does is not the code's."""
    environment = os.environ | {"ETL_ML_LAKE": f"{root}/lake"}
    environment.pop("POLARS_MAX_THREADS", None)
    costs = [measure(code, setup=setup, environment=environment) for _ in range(3)]
    return min(costs, key=lambda cost: cost.cpu)
