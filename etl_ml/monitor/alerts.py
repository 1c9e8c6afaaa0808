"""The front door of alerts: one look at what happened, told to every receiver that wants it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from etl_ml.lake import Lake
from etl_ml.monitor.delivery import Undelivered, deliver, name_of
from etl_ml.monitor.finished import FinishedRun, notices_of
from etl_ml.monitor.message import Message
from etl_ml.monitor.notice import Notice, clock, wanted
from etl_ml.monitor.outbox import Memory, Plan, plan
from etl_ml.monitor.secrets import secrets_of
from etl_ml.spec.automation import Alert
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline

LOOK_BACK = 3600.0
"""How far back a receiver is told of runs when it is new, in seconds."""
# Of the minute that a tick has, a third is for the receivers that take their time.
_BUDGET = 30.0
_FORMAT = 1


class History(Protocol):
    """What Dagster knows of the pipeline's runs."""

    def start(self, before: float) -> Mapping[str, int]:
        """The position behind the last run that ended before a moment."""

    def finished(self, after: Mapping[str, int]) -> tuple[Sequence[FinishedRun], Mapping[str, int]]:
        """Runs that ended after a position, in order and not too many, and the position then."""

    def stale_since(self) -> float | None:
        """Since when `raw_data` is older than its freshness policy allows; None while it is not."""


class Log(Protocol):
    def info(self, msg: str, /) -> Any: ...
    def warning(self, msg: str, /) -> Any: ...
    def error(self, msg: str, /) -> Any: ...


@dataclass(frozen=True)
class Alerts:
    """The alerts of one pipeline.

    Parameters
    ----------
    lake : opens where the numbers are
    ui : the URL of Dagster's UI, if it is known
    """

    pipeline: Pipeline
    lake: Callable[[], Lake]
    ui: str | None = None

    def tell(
        self,
        state: str | None,
        history: History,
        log: Log,
        clock: Callable[[], float],
        send: Callable[[Alert, Message], None] = deliver,
    ) -> str:
        """Tell every receiver what it wants to know and was not told.

        A receiver that fails does not keep the others waiting, and is tried again with the next
        looks, later and later; after a day what it missed is logged.

        Parameters
        ----------
        state : what the last call returned, None for the first
        clock : seconds since 1970

        Returns
        -------
        The state for the next call: JSON, without a secret.
        """
        started = clock()
        memories = _loaded(state)
        seen = _Seen(self, history)
        for name, alert in named(self.pipeline.automation.alerts):
            memory = memories.get(name) or Memory(after=history.start(started - LOOK_BACK))
            now = clock()
            # One that could not be asked for want of time is the first that the next look has for.
            if now < memory.not_before or now - started > _BUDGET:
                memories[name] = memory
                continue
            memories[name] = self._turn(alert, memory, seen, log, now, send)
        kept = [name for name, _ in named(self.pipeline.automation.alerts)]
        told = {name: memories[name].dump() for name in kept}
        return json.dumps({"format": _FORMAT, "alerts": told})

    def _turn(
        self,
        alert: Alert,
        memory: Memory,
        seen: _Seen,
        log: Log,
        now: float,
        send: Callable[[Alert, Message], None],
    ) -> Memory:
        notices, after = seen.since(memory.after)
        if "source_stale" in alert.on:
            notices = [*notices, *seen.stale(now)]
        found = plan(memory, wanted(notices, alert.on), after, alert.every_seconds, now)
        if found.is_empty:
            return found.then
        message = self._message(found)
        try:
            send(alert, message)
        except Undelivered as error:
            return self._untold(alert, memory, found, message, error, log, now)
        # A defect in one channel is no reason to tell all others the same again and again.
        except Exception as error:
            return self._untold(alert, memory, found, message, error, log, now)
        log.info(f"{name_of(alert)} was told: {message.subject}")
        return found.then

    def _untold(
        self,
        alert: Alert,
        memory: Memory,
        found: Plan,
        message: Message,
        error: Exception,
        log: Log,
        now: float,
    ) -> Memory:
        if isinstance(error, Undelivered) and error.partly:
            log.warning(str(error))
            return found.then
        reason = str(error) if isinstance(error, Undelivered) else f"defect: {type(error).__name__}"
        if memory.has_given_up(now):
            log.error(
                f"{name_of(alert)} has taken nothing since {clock(memory.since)}; this is not "
                f"sent any more:\n{message.text}"
            )
            return Memory(after=found.then.after, told=memory.told)
        failed = memory.failed(now, getattr(error, "retry_after", 0.0))
        log.warning(
            f"{reason}\nAttempt {failed.attempts}, the next after {clock(failed.not_before)}. "
            f"Not told yet: {message.subject}"
        )
        return failed

    def _message(self, found: Plan) -> Message:
        pipeline = self.pipeline
        ui = self.ui.rstrip("/") if self.ui else None
        return Message(pipeline.name, found.notices, found.again, ui, secrets_of(pipeline))


class _Seen:
    """What was read in one look: receivers mostly stand at the same position."""

    def __init__(self, alerts: Alerts, history: History) -> None:
        self._alerts, self._history = alerts, history
        self._runs: dict[str, tuple[list[Notice], Mapping[str, int]]] = {}
        self._notices: dict[str, list[Notice]] = {}

    def since(self, after: Mapping[str, int]) -> tuple[list[Notice], Mapping[str, int]]:
        place = json.dumps(after, sort_keys=True)
        if place not in self._runs:
            runs, then = self._history.finished(after)
            self._runs[place] = [n for run in runs for n in self._of(run)], then
        return self._runs[place]

    def stale(self, now: float) -> list[Notice]:
        since, pipeline = self._history.stale_since(), self._alerts.pipeline
        if since is None:
            return []
        return [
            Notice(
                "source_stale",
                pipeline.name,
                "source_stale",
                "raw_data is older than its freshness policy allows",
                now,
                asset="raw_data",
                details=(
                    f"No run has read {pipeline.source.address} in time.",
                    "See whether the daemon runs, and whether the sensor or the schedule is on.",
                ),
                numbers={"stale since": clock(since)},
                next=f"etl-ml show {pipeline.name} raw_data",
            )
        ]

    @cached_property
    def _lake(self) -> Lake | None:
        try:
            return self._alerts.lake()
        except EtlMlError:  # the run tells of it itself
            return None

    def _of(self, run: FinishedRun) -> list[Notice]:
        if run.run_id not in self._notices:
            self._notices[run.run_id] = notices_of(run, self._alerts.pipeline, self._lake)
        return self._notices[run.run_id]


def named(alerts: Sequence[Alert]) -> list[tuple[str, Alert]]:
    """Each with a name of its own: its type, and a number from the second one on."""
    counts: dict[str, int] = {}
    found = []
    for alert in alerts:
        count = counts[alert.type] = counts.get(alert.type, 0) + 1
        found.append((alert.type if count == 1 else f"{alert.type}_{count}", alert))
    return found


def _loaded(state: str | None) -> dict[str, Memory]:
    """A state that cannot be read is none: better told twice than never."""
    try:
        document = json.loads(state or "{}")
        if document.get("format") != _FORMAT:
            return {}
        return {name: Memory.load(told) for name, told in document["alerts"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
