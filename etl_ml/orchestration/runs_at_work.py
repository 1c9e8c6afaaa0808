"""Runs of one pipeline: which are at work, which have died, and how the last ones ended.

Dagster's run storage tells of the runs of this instance. The lake tells of all that give a sign of
life, whoever started them; and of those whose process is gone, which Dagster takes for running
until somebody says otherwise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES, RunRecord
from dagster._core.storage.tags import GRPC_INFO_TAG

from etl_ml.lake import Lake, Run
from etl_ml.lake.heartbeat import Sign, signs

PIPELINE_TAG = "etl_ml/pipeline"
GOAL_TAG = "etl_ml/goal"
"""What a sensor's run is for: `data`, `train` or `deploy`."""
WHY_TAG = "etl_ml/because"
_SILENCE = 300.0  # seconds without a sign after which a process is taken for dead
_UNREACHABLE = 30.0  # the same where the code server that started it is gone, too
_REMEMBERED = 25
_LIMIT = 1000


class Silence:
    """For how many looks in a row something has stayed as it was; looks, so that no clock counts.

    Parameters
    ----------
    every_seconds : between two looks
    seen : what the last look's `now` was
    """

    def __init__(self, every_seconds: float, seen: Mapping[str, Any]) -> None:
        self._every, self._seen = every_seconds, seen
        self.now: dict[str, tuple[str, int]] = {}

    def lasts(self, name: str, what: object, seconds: float) -> bool:
        """Whether `what` has been the same for so long; to be asked once a look."""
        before, looks = self._seen.get(name, (None, 0))
        looks = looks + 1 if before == str(what) else 0
        self.now[name] = (str(what), looks)
        return looks >= max(2, math.ceil(seconds / self._every))


def at_work(
    instance: dg.DagsterInstance, lake: Lake, pipeline: str, silence: Silence
) -> str | None:
    """Which run is at work on the pipeline, in words; None where there is none.

    A run whose process is gone is marked as failed on the way.
    """
    living: dict[str, list[Sign]] = {}
    for sign in signs(lake, pipeline):
        dead = sign.is_of_the_dead() or silence.lasts(sign.name, sign.beat, _SILENCE)
        if dead:
            lake.backend.delete(sign.name)
        living.setdefault(sign.run_id, []).extend([] if dead else [sign])
    filters = dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)
    working = None
    for record in instance.get_run_records(filters=filters, limit=_LIMIT):
        run = record.dagster_run
        if not _concerns(run, pipeline):
            continue
        told = living.pop(run.run_id, None)
        if told or (told is None and _may_live(run, silence)):
            working = f"run {run.run_id[:8]} ({run.status.value.lower()}) is at work"
        else:
            instance.report_run_failed(run, "Its process is gone without a word: it was killed.")
    others = [run_id for run_id, found in living.items() if found]
    for run_id in others:
        finished = instance.get_run_by_id(run_id)
        if finished is None:
            working = working or f"run {run_id[:8]} of another Dagster instance is at work"
    return working


@dataclass(frozen=True)
class LastRuns:
    """How the newest runs of a pipeline ended.

    Attributes
    ----------
    newest : id of the newest run, "" where there is none
    failures : how many in a row have failed, back to the last one that brought rows to the lake
    ended : when the newest ended, in seconds since 1970 by Dagster's clock
    """

    newest: str = ""
    failures: int = 0
    ended: float = 0.0

    @staticmethod
    def of(instance: dg.DagsterInstance, lake: Lake, pipeline: str) -> LastRuns:
        """In the order in which they were created, whatever clocks said."""
        filters = dg.RunsFilter(tags={PIPELINE_TAG: pipeline})
        records = list(instance.get_run_records(filters=filters, limit=_REMEMBERED))
        if not records:
            return LastRuns()
        failures = 0
        for record in records:
            if record.dagster_run.is_success:
                break
            failures += record.dagster_run.is_finished
            if Run(lake, pipeline, record.dagster_run.run_id).has_written("raw_data"):
                break
        return LastRuns(records[0].dagster_run.run_id, failures, _ended(records[0]))


def _ended(record: RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()


def _concerns(run: dg.DagsterRun, pipeline: str) -> bool:
    if run.tags.get(PIPELINE_TAG) == pipeline or run.job_name == f"{pipeline}_job":
        return True
    if run.asset_selection:
        return any(key.path[0] == pipeline for key in run.asset_selection)
    return run.job_name.startswith("__ASSET_JOB")


def _may_live(run: dg.DagsterRun, silence: Silence) -> bool:
    """Whether a run that gives no sign of life may be alive: about to start, or between steps."""
    if run.status == dg.DagsterRunStatus.QUEUED:
        return True
    server = _executing(run)
    if server == "yes":
        return True
    waits = run.status in (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)
    if server is None and not waits:
        return True  # on another machine, where only Dagster's own monitoring sees it
    patience = _UNREACHABLE if server == "unreachable" else _SILENCE
    return not silence.lasts(run.run_id, run.status.value, patience)


def _executing(run: dg.DagsterRun) -> str | None:
    """What the code server that started a run says: `yes`, `no`, or `unreachable`."""
    if GRPC_INFO_TAG not in run.tags:
        return None
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
    from dagster._serdes import deserialize_value

    place: dict[str, Any] = json.loads(run.tags[GRPC_INFO_TAG])
    try:
        client = DagsterGrpcClient(
            port=place.get("port"),
            socket=place.get("socket"),
            host=place.get("host") or "localhost",
            use_ssl=bool(place.get("use_ssl")),
        )
        answer = deserialize_value(
            client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=3),
            CanCancelExecutionResult,
        )
    except DagsterUserCodeUnreachableError:
        return "unreachable"
    return "yes" if answer.can_cancel else "no"
