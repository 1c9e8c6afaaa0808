"""One thing that a person should know of, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from etl_ml.spec.automation import Event


@dataclass(frozen=True)
class Notice:
    """Something that happened to a pipeline.

    Attributes
    ----------
    event : what kind of thing
    key : two notices with one key tell the same: the second one can wait
    what : one sentence without the pipeline's name and without a full stop
    at : seconds since 1970
    run_id : of the run that it happened in, None where there was none
    asset : that it happened to
    details : lines that explain it
    numbers : by name, those that matter
    next : the command that looks closer, or mends
    report : where in the lake it is told in full
    told_by : the event that tells the same better, where the run has one of it
    """

    event: Event
    pipeline: str
    key: str
    what: str
    at: float
    run_id: str | None = None
    asset: str | None = None
    details: tuple[str, ...] = ()
    numbers: Mapping[str, str] = field(default_factory=dict)
    next: str | None = None
    report: str | None = None
    told_by: Event | None = None


def wanted(notices: list[Notice], events: tuple[Event, ...]) -> list[Notice]:
    """Those of the events, without those that another of them tells better."""
    chosen = [notice for notice in notices if notice.event in events]
    told = {(notice.run_id, notice.event) for notice in chosen}
    return [notice for notice in chosen if (notice.run_id, notice.told_by) not in told]


def clock(at: float) -> str:
    """A moment for people: `2026-11-23 09:30 UTC`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
