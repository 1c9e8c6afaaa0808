"""`<pipeline>_schedule`: the whole job, by a cron expression in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import dagster as dg
from dagster._utils.schedules import cron_string_iterator, is_valid_cron_string

from etl_ml.spec import InvalidPipeline
from etl_ml.spec.pipeline import Pipeline

_FORM = "minute hour day-of-month month day-of-week, in UTC: '0 3 * * 1-5' is 03:00 on weekdays"
_AHEAD = 400  # firings that are looked at for the longest pause between two


def check_schedule(pipeline: Pipeline, file: str) -> None:
    """Refuse what is no cron expression, or never fires.

    Raises
    ------
    InvalidPipeline
    """
    cron = pipeline.automation.schedule
    if cron is not None and not is_valid_cron_string(cron):
        raise InvalidPipeline(
            f"{pipeline.name}: automation.schedule is no cron expression that ever fires.",
            seen=repr(cron[:80]),
            where=file,
            fix=f"write {_FORM}",
        )


def build_schedule(pipeline: Pipeline, cron: str, job: Any) -> dg.ScheduleDefinition:
    """The schedule, running as soon as its key is set; with partitions, over the last whole day."""
    days = pipeline.partitions
    facts: dict[str, Any] = {
        "name": f"{pipeline.name}_schedule",
        "job": job,
        "cron_schedule": cron,
        "execution_timezone": "UTC",
        "default_status": dg.DefaultScheduleStatus.RUNNING,
        "description": f"Runs {pipeline.name} by the cron expression {cron}, in UTC.",
    }
    if days is None:
        return dg.ScheduleDefinition(**facts)

    @dg.schedule(**facts)
    def last_day(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = context.scheduled_execution_time.astimezone(UTC).date() - timedelta(days=1)
        if day < days.start:
            return dg.SkipReason(f"the first day, {days.start}, is not over yet")
        return dg.RunRequest(partition_key=day.isoformat())

    return last_day


def longest_pause(cron: str) -> timedelta:
    """The longest time between two firings."""
    start = datetime.now(UTC).timestamp()
    moments = islice(cron_string_iterator(start, cron, "UTC"), _AHEAD)
    return max(later - earlier for earlier, later in pairwise(moments))
