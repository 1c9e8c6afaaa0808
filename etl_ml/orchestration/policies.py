"""How fresh assets have to be, and which follow what is above them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from etl_ml.orchestration.schedules import longest_pause
from etl_ml.spec.automation import Window
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.retention import duration

_HOUR, _DAY, _MONTH = timedelta(hours=1), timedelta(days=1), timedelta(days=30)


def policies(pipeline: Pipeline, asset: str) -> dict[str, Any]:
    """The policies of an asset, as keyword arguments of its declaration.

    All but `raw_data` follow what is above them, where somebody turns on Dagster's automation
    sensor, which is off by default.
    """
    found: dict[str, Any] = {}
    if (window := freshness(pipeline, asset)) is not None:
        found["freshness_policy"] = window
    if asset != "raw_data":
        found["automation_condition"] = dg.AutomationCondition.eager()
    return found


def freshness(pipeline: Pipeline, asset: str) -> dg.FreshnessPolicy | None:
    """How old an asset may be: as asked, else what schedule and sensor promise; None without them.

    By default `raw_data` fails after the schedule's longest pause and a half, and at least an hour
    more; with the sensor alone after seven days without anything new. `deployed_model` fails after
    thirty days, or three of the schedule's pauses if these are longer: runs that deploy nothing are
    good runs, for a while.
    """
    automation = pipeline.automation
    asked: Window | None = getattr(automation.freshness, asset, None)
    if asked is not None:
        warn = duration(asked.warn) if asked.warn is not None else None
        return dg.FreshnessPolicy.time_window(duration(asked.fail), warn)
    pause = longest_pause(automation.schedule) if automation.schedule else None
    if pause is None and automation.new_data is None:
        return None
    if asset == "deployed_model":
        fail = max(_MONTH, 3 * (pause or _DAY))
        return dg.FreshnessPolicy.time_window(fail, fail / 2)
    if asset != "raw_data":
        return None
    if pause is not None:
        return dg.FreshnessPolicy.time_window(max(pause * 1.5, pause + _HOUR))
    assert automation.new_data is not None
    warn = max(_DAY, 2 * timedelta(seconds=automation.new_data.max_wait_seconds))
    return dg.FreshnessPolicy.time_window(7 * warn, warn)
