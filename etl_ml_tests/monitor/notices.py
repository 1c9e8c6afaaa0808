"""Notices, messages and pipelines with alerts, for tests."""

from __future__ import annotations

from typing import Any

from etl_ml.monitor.message import Message
from etl_ml.monitor.notice import Notice
from etl_ml.spec import Pipeline
from etl_ml_tests.conftest import make_pipeline

AT = 1_764_000_000.0  # 2025-11-24 16:00 UTC


def failed(asset: str = "raw_data", *, run: str = "r1", at: float = AT, **more: Any) -> Notice:
    """The news that a run failed."""
    given: dict[str, Any] = {
        "details": ("loans.csv: there is no such file.",),
        "next": "etl-ml show loans",
    } | more
    what = f"the run failed at {asset}"
    return Notice("run_failed", "loans", f"run_failed {asset}", what, at, run, asset, **given)


def message(*notices: Notice, **more: Any) -> Message:
    """The message that tells them."""
    return Message("loans", notices or (failed(),), **more)


def alerted(*alerts: dict[str, Any], **sections: Any) -> Pipeline:
    """The small pipeline with alerts."""
    return make_pipeline(automation={"alerts": list(alerts)}, **sections)
