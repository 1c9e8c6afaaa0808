"""`raw_data` by the day: which partitions there are, and what a run over some of them reads."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from etl_ml.lake import Contents, Increment
from etl_ml.lake.backend import TableHandle
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline


class NoDay(EtlMlError):
    """A run of a source that is read by the day, without a day."""


def partitions_def(pipeline: Pipeline) -> dg.PartitionsDefinition[str] | None:
    """The days of a pipeline in UTC, each once it is over; None where it has none.

    Only `raw_data` has partitions: what follows is made from all of its days.
    """
    if pipeline.partitions is None:
        return None
    return dg.DailyPartitionsDefinition(pipeline.partitions.start.isoformat(), timezone="UTC")


def backfill(pipeline: Pipeline) -> dict[str, Any]:
    """How several days are run, as a keyword argument of each asset: all in one run."""
    days = pipeline.partitions is not None
    return {"backfill_policy": dg.BackfillPolicy.single_run()} if days else {}


def days_of(context: Any, pipeline: Pipeline, home: Path) -> dg.Output[Contents]:
    """What `raw_data` becomes with the days of this run read anew, in one commit.

    Raises
    ------
    NoDay
    """
    from etl_ml.extract import extract_days

    if not context.has_partition_key and not context.has_partition_key_range:
        raise NoDay(
            f"{pipeline.name}/raw_data is read by the day, and this run names none.",
            where="partitions",
            fix="choose days in the UI, or: dagster asset materialize --partition 2026-01-31, "
            "--partition-range 2026-01-01...2026-01-31",
        )
    days = [date.fromisoformat(key) for key in context.partition_keys]
    refresh = context.op_execution_context.op_config["refresh"]

    def grow(head: TableHandle | None) -> Increment:
        return extract_days(pipeline, days, head, base=home, refresh=refresh, log=context.log.info)

    return dg.Output(Contents(grow=grow))
