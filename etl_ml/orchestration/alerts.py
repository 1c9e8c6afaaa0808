"""The sensor behind the alerts: what Dagster knows of finished runs, for `monitor` to tell."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.event_api import RunStatusChangeRecordsFilter
from dagster._core.events import JobFailureData
from dagster._core.storage.tags import WILL_RETRY_TAG

from etl_ml.orchestration.checks import check_specs
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    from dagster_shared.error import SerializableErrorInfo

    from etl_ml.monitor.finished import FailedCheck, FailedStep, FinishedRun

UI_URL = "ETL_ML_UI_URL"
_EVERY_SECONDS = 15
# A look takes what a tick has time for; the next one goes on where it ended.
_RUNS, _RECORDS = 50, 500
_ENDS: dict[dg.DagsterEventType, Any] = {
    dg.DagsterEventType.RUN_SUCCESS: "succeeded",
    dg.DagsterEventType.RUN_FAILURE: "failed",
    dg.DagsterEventType.RUN_CANCELED: "canceled",
}
_TOLD = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.RUN_FAILURE,
}
_REASONS = {
    "UNEXPECTED_TERMINATION": "its process ended unexpectedly: killed, or out of memory",
    "RUN_EXCEPTION": "it raised an error outside of its steps",
    "JOB_INITIALIZATION_FAILURE": "it could not be set up",
    "START_TIMEOUT": "it did not start in time",
    "RUN_WORKER_RESTART": "its worker was restarted",
}


def build_alerts(
    pipeline: Pipeline,
    assets: Iterable[dg.AssetsDefinition | dg.AssetSpec],
    lake_io: PipelineIOManager,
) -> list[dg.SensorDefinition]:
    """The sensor `<pipeline>_alerts`, running as soon as the pipeline has alerts.

    Parameters
    ----------
    assets : the pipeline's own, by whose ops a failed step is known
    """
    if not pipeline.automation.alerts:
        return []
    made_by = {
        asset.node_def.name: min(key.path[-1] for key in asset.keys)
        for asset in assets
        if isinstance(asset, dg.AssetsDefinition) and asset.is_executable
    }
    # Both of a multi-asset's are written by one step: it is known by what it validates.
    made_by[f"{pipeline.name}__validated_data"] = "validated_data"

    @dg.sensor(
        name=f"{pipeline.name}_alerts",
        description=f"Tells of {pipeline.name}'s runs to those who are named under "
        "automation.alerts, at least once, and of the same only now and then.",
        minimum_interval_seconds=_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from etl_ml.monitor.alerts import Alerts

        history = RunHistory(context.instance, pipeline, made_by)
        told = Alerts(pipeline, lake_io.lake, os.environ.get(UI_URL))
        state = told.tell(context.cursor, history, context.log, time.time)
        context.update_cursor(state)
        return dg.SkipReason("It asks for no run: it tells of those that have ended.")

    return [alerts]


class RunHistory:
    """What Dagster's instance knows of a pipeline's runs; see `etl_ml.monitor.alerts.History`.

    Parameters
    ----------
    made_by : by op, the asset that it makes
    """

    def __init__(
        self, instance: dg.DagsterInstance, pipeline: Pipeline, made_by: Mapping[str, str]
    ) -> None:
        self._instance, self._name, self._made_by = instance, pipeline.name, made_by
        self._own = {
            (asset, spec.name)
            for asset in set(made_by.values())
            for spec in check_specs(pipeline, asset)
        }
        self._sensitive = any(column.sensitive for column in pipeline.contract.columns.values())

    def start(self, before: float) -> dict[str, int]:
        """The position behind the last run that ended before a moment."""
        found = {}
        for kind in _ENDS:
            asked = RunStatusChangeRecordsFilter(kind, before_timestamp=before)  # type: ignore[arg-type]
            records = self._instance.fetch_run_status_changes(asked, limit=1).records
            found[kind.value] = records[0].storage_id if records else 0
        return found

    def finished(self, after: Mapping[str, int]) -> tuple[list[FinishedRun], dict[str, int]]:
        """Runs of the pipeline that ended after a position, in order, and the position then."""
        then = {kind.value: after.get(kind.value, 0) for kind in _ENDS}
        found: list[FinishedRun] = []
        for kind, record in merge(*map(self._ended, _ENDS, then.values()), key=_moment):
            if len(found) == _RUNS:
                break
            run = self._instance.get_run_by_id(record.event_log_entry.run_id)
            if run is not None and self._is_ours(run):
                told = self._finished(run, kind, record.timestamp)
                found += [told] if told is not None else []
            then[kind.value] = record.storage_id
        return found, then

    def stale_since(self) -> float | None:
        """Since when `raw_data` is older than its freshness policy allows; None while it is not."""
        key = dg.AssetKey([self._name, "raw_data"])
        record = self._instance.get_freshness_state_records([key]).get(key)
        if record is None or record.freshness_state != FreshnessState.FAIL:
            return None
        return record.updated_at.timestamp()

    def _ended(
        self, kind: dg.DagsterEventType, after: int
    ) -> Iterator[tuple[dg.DagsterEventType, dg.EventLogRecord]]:
        asked = RunStatusChangeRecordsFilter(kind, after_storage_id=after)  # type: ignore[arg-type]
        found = self._instance.fetch_run_status_changes(asked, limit=_RECORDS, ascending=True)
        return ((kind, record) for record in found.records)

    def _is_ours(self, run: dg.DagsterRun) -> bool:
        """Whether the run was to make, or to check, an asset of the pipeline."""
        if run.job_name == f"{self._name}_job":
            return True
        keys = set(run.asset_selection or ())
        keys |= {check.asset_key for check in run.asset_check_selection or ()}
        if not keys:
            keys = set(self._instance.get_asset_keys_for_run(run.run_id))
        return any(key.path[0] == self._name for key in keys)

    def _finished(
        self, run: dg.DagsterRun, kind: dg.DagsterEventType, at: float
    ) -> FinishedRun | None:
        from etl_ml.monitor.finished import FinishedRun

        steps: list[FailedStep] = []
        checks: list[FailedCheck] = []
        made: dict[str, dict[str, Any]] = {}
        elsewhere, reason = False, None
        for entry in self._instance.all_logs(run.run_id, of_type=_TOLD):
            event = entry.dagster_event
            assert event is not None
            if event.event_type == dg.DagsterEventType.STEP_FAILURE:
                ours = self._step(event)
                elsewhere |= ours is None
                steps += [ours] if ours is not None else []
            elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                checks += self._check(event.asset_check_evaluation_data, kind)
            elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
                materialization = event.step_materialization_data.materialization
                path = materialization.asset_key.path
                if path[0] == self._name:
                    made[path[-1]] = _plain(materialization.metadata)
            else:
                data = event.event_specific_data
                failed = data.failure_reason if isinstance(data, JobFailureData) else None
                reason = _REASONS.get(failed.value) if failed else None
        status = _ENDS[kind]
        if status == "failed" and elsewhere and not steps:
            status = "succeeded"  # as far as this pipeline is concerned: another one's step failed
        return FinishedRun(
            run.run_id,
            status,
            at,
            failed_steps=tuple(steps),
            failed_checks=tuple(checks),
            reason=reason,
            retried=run.tags.get(WILL_RETRY_TAG) == "true",
            made=made,
        )

    def _step(self, event: dg.DagsterEvent) -> FailedStep | None:
        from etl_ml.monitor.finished import FailedStep

        op = (event.step_key or "").partition(".")[0].partition("[")[0]
        if op not in self._made_by:
            return None
        data = event.step_failure_data
        said = data.user_failure_data.description if data.user_failure_data else None
        return FailedStep(self._made_by[op], self._shown(said or _reason(data.error)))

    def _check(
        self, evaluation: dg.AssetCheckEvaluation, kind: dg.DagsterEventType
    ) -> list[FailedCheck]:
        from etl_ml.monitor.finished import FailedCheck

        if evaluation.passed or evaluation.asset_key.path[0] != self._name:
            return []
        stops = bool(evaluation.blocking) and kind == dg.DagsterEventType.RUN_FAILURE
        stops &= evaluation.severity == dg.AssetCheckSeverity.ERROR
        asset, name = evaluation.asset_key.path[-1], evaluation.check_name
        # What a check of somebody else's says may hold anything.
        said = (evaluation.description or "") if (asset, name) in self._own else ""
        return [FailedCheck(asset, name, self._shown(said), stops)]

    def _shown(self, text: str) -> str:
        """Without what was seen, where that may be a sensitive value."""
        if not self._sensitive:
            return text
        return "\n".join(line for line in text.splitlines() if not line.startswith("  seen "))


def _moment(item: tuple[dg.DagsterEventType, dg.EventLogRecord]) -> float:
    return item[1].timestamp


def _reason(error: SerializableErrorInfo | None) -> str:
    """What etl_ml said; of other errors, whose text may hold rows or credentials, their class."""
    kind = "an error"
    while error is not None:
        name, separator, text = error.message.partition(": ")
        if separator and name.startswith("etl_ml."):
            return text.strip()
        kind = error.cls_name or kind
        error = error.cause
    return f"{kind}; the run's log has its text"


def _plain(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, Any]:
    kept = (str, int, float, bool)
    return {name: v.value for name, v in metadata.items() if isinstance(v.value, kept)}
