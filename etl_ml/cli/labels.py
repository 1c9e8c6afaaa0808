"""`etl-ml labels`: what predicted rows turned out to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import polars as pl
from pydantic import ValidationError
from rich.console import RenderableType
from rich.text import Text

from etl_ml.cli.terminal import console, shown, table
from etl_ml.extract.file import open_files
from etl_ml.lake import open_lake
from etl_ml.monitor.labels import Taken, add_labels
from etl_ml.monitor.performance import LEAST, Period
from etl_ml.spec.error import EtlMlError, bounded, nearest
from etl_ml.spec.source import FileSource


def take_labels(pipeline: str, given: str, by: str) -> None:
    """Read labels, judge the predictions that they belong to, and say how good these were.

    Raises
    ------
    EtlMlError
        Nothing was written.
    """
    periods = get_args(Period)
    if by not in periods:
        close = nearest(by, periods)
        raise EtlMlError(
            f"--by {bounded(by)} is no stretch of time.",
            close=close,
            fix=f"use one of {', '.join(periods)}",
        )
    try:
        source = FileSource(type="file", path=given)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise EtlMlError(f"{bounded(given)}: {problem}.", fix="correct the name") from None
    _, batches = open_files(source, Path.cwd(), identified=True)
    frames = [frame for frame in map(pl.from_arrow, batches) if isinstance(frame, pl.DataFrame)]
    if not frames:
        raise EtlMlError(f"{given} has no rows.", fix="give a file with labels")
    taken = add_labels(open_lake(), pipeline, pl.concat(frames), by=by)  # type: ignore[arg-type]
    out = console()
    out.print(Text(_said(taken)))
    if taken.report is not None:
        for part in performance_tables(taken.report):
            out.print()
            out.print(part)


def performance_tables(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The report for people: by version, then over time."""
    metric = report["metric"] or ""
    rows = []
    for version, found in report["versions"].items():
        test = found["test"].get(metric, {}).get("value")
        worse = {True: "worse", False: "", None: "not known"}[found["worse"]]
        live = found["metrics"].get(metric, {})
        rows.append(
            [version, found["rows"], found["trained_on"], _interval(live), shown(test), worse]
        )
    columns = ["version", "labelled", "trained on", metric, "on test rows", ""]
    yield table("Predictions with a label", columns, rows)
    periods = [
        [p["begin"], p["version"], p["rows"], _interval(p["metrics"].get(metric, {}))]
        for p in report["periods"]
    ]
    yield table(f"By {report['by']}", ["from", "version", "labelled", metric], periods)


def _interval(found: Mapping[str, Any]) -> str:
    if not found:
        return f"under {LEAST} labels"
    if found["low"] is None:
        return shown(found["value"])
    return f"{shown(found['value'])} ({shown(found['low'])} to {shown(found['high'])})"


def _said(taken: Taken) -> str:
    left = {
        "of rows that nobody has predicted": taken.unknown,
        "that are no label of the model, or of no row": taken.unreadable,
        "of rows that have several labels": taken.contradictory,
    }
    told = "".join(f"; {count:,} {what}" for what, count in left.items() if count)
    return f"{taken.rows:,} labels, {taken.new:,} of them new{told}."
