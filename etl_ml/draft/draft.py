"""The front door: from a sample of rows to a pipeline that has been tried on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from etl_ml.draft.columns import DraftColumn, infer, null_values
from etl_ml.draft.sample import Sample
from etl_ml.draft.target import DraftTarget, infer_target
from etl_ml.draft.trial import Tried, tried
from etl_ml.spec import Pipeline, parse
from etl_ml.spec.contract import MOMENTS
from etl_ml.spec.error import EtlMlError, listed, nearest
from etl_ml.spec.source_section import NULL_VALUES

NULLS = "null_values"
_FOLDS = 5
_LEAST = 100
_SHARE = 0.05


class UnusableTarget(EtlMlError):
    """A target that no pipeline can be drafted for."""


@dataclass(frozen=True)
class Draft:
    """A pipeline to be.

    Attributes
    ----------
    attributes : what stands under `attributes:`, as `etl_ml.spec.parse` takes it
    columns : what was found of each column, in order
    target : what was found of the target
    pipeline : what they are, with the source's address in place of a template
    rows : of the sample
    whole : whether the sample is all there is
    notes : what a person should know, a sentence each
    problems : what must be edited before it can run, a sentence each
    """

    attributes: dict[str, Any]
    columns: tuple[DraftColumn, ...]
    target: DraftTarget
    pipeline: Pipeline
    rows: int
    whole: bool
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def target_name(self) -> str:
        return str(self.attributes["target"]["column"])


def draft(sample: Sample, target: str, *, name: str | None = None) -> Draft:
    """Infer the contract, the task and the split from a sample, and try them on it.

    Parameters
    ----------
    target : the column that is to be predicted
    name : the pipeline's; by default the file's or table's

    Raises
    ------
    UnusableTarget
        There is no such column, or it has no value.
    InvalidPipeline
        The name is none that a pipeline can have.
    """
    rows = sample.rows
    if target not in rows.columns:
        close = nearest(target, rows.columns)
        raise UnusableTarget(
            f"there is no column {target!r} to predict.",
            seen=f"the columns are {listed(rows.columns, 20)}",
            where="--target",
            close=repr(close) if close else None,
            fix="name one of these",
        )
    columns = [infer(rows[column], target=column == target) for column in rows.columns]
    found = next(column for column in columns if column.name == target)
    if found.left_out or not found.distinct:
        raise UnusableTarget(
            f"column {target!r} cannot be predicted: {found.left_out or 'it has no value'}.",
            where="--target",
            fix="name another column",
        )
    decided = infer_target(found, _FOLDS)
    attributes, notes = _attributes(sample, columns, found, decided, name or sample.name)
    problems = [decided.problem] if decided.problem else []
    pipeline = parse(attributes, file="defs.yaml")
    if not problems:
        outcome = tried(attributes, rows)
        attributes, columns = outcome.attributes, _with_leaks(columns, outcome)
        notes += outcome.notes
        problems += outcome.problems
        pipeline = parse(attributes, file="defs.yaml")
    shown = {**sample.source, **{k: v for k, v in attributes["source"].items() if k == NULLS}}
    return Draft(
        {**attributes, "source": shown},
        tuple(columns),
        decided,
        pipeline,
        len(rows),
        sample.whole,
        tuple(notes),
        tuple(problems),
    )


def _attributes(
    sample: Sample,
    columns: list[DraftColumn],
    target: DraftColumn,
    decided: DraftTarget,
    name: str,
) -> tuple[dict[str, Any], list[str]]:
    rows, notes = len(sample.rows), []
    kept = [column for column in columns if column.left_out is None]
    contracts = {
        column.name: decided.contract if column is target else column.contract for column in kept
    }
    key = [column for column in sample.key if column in contracts]
    key = key or _key(kept, target, sample)
    for column in key:
        contracts[column] = {**contracts[column], "nullable": False}
    source = sample.readable
    if more := null_values(kept):
        source[NULLS] = [*NULL_VALUES, *more]
    contract: dict[str, Any] = {"columns": contracts}
    if len(kept) < len(columns):
        contract = {"unknown_columns": "drop", **contract}
    if key:
        contract = {"primary_key": key, **contract}
    said: dict[str, Any] = {"column": target.name}
    if decided.task == "regression":
        said["task"] = "regression"
    if decided.positive is not None:
        said["positive"] = decided.positive
    attributes: dict[str, Any] = {
        "name": name,
        "source": source,
        "contract": contract,
        "target": said,
    }
    validation: dict[str, Any] = {}
    if (lost := _broken(sample.rows, kept, target, decided)) > _SHARE * 0.8:
        validation["max_quarantined"] = min(1.0, math.ceil(lost * 150) / 100)
        notes.append(f"{lost:.0%} of the rows break the contract, and will be set aside.")
    if rows < 2 * _LEAST and sample.whole:
        validation["min_rows"] = max(1, rows // 2)
    if validation:
        attributes["validation"] = validation
    excluded = [c.name for c in kept if c.excluded and c is not target and c.name not in key]
    times = [c for c in kept if c.kind in MOMENTS and c is not target and not c.excluded]
    if len(times) == 1 and _tells_time(times[0], rows):
        when = times[0].name
        contracts[when] = {**contracts[when], "nullable": False}
        attributes["split"] = {"strategy": "time", "column": when}
        excluded.append(when)
    if excluded:
        attributes["features"] = {"exclude": excluded}
    return attributes, notes


def _tells_time(column: DraftColumn, rows: int) -> bool:
    """Whether the rows came one after the other, as this column says."""
    return column.distinct >= 50 and "nullable" in column.contract and column.distinct > rows / 100


def _key(columns: list[DraftColumn], target: DraftColumn, sample: Sample) -> list[str]:
    """The first column that identifies a row, if each of its values is there once."""
    for column in columns:
        whole = column.excluded == "it identifies a row" and column is not target
        if whole and column.distinct == len(sample.rows):
            return [column.name]
    return []


def _broken(
    rows: pl.DataFrame, columns: list[DraftColumn], target: DraftColumn, decided: DraftTarget
) -> float:
    """About the share of rows that will be set aside."""
    unlabelled = target.values.null_count() + sum((decided.rare or {}).values())
    return min(1.0, unlabelled / len(rows) + sum(column.broken for column in columns))


def _with_leaks(columns: list[DraftColumn], outcome: Tried) -> list[DraftColumn]:
    return [
        replace(column, excluded=f"it gives the target away: {outcome.leaks[column.name]}")
        if column.name in outcome.leaks
        else column
        for column in columns
    ]
