"""`<pipeline>_new_data` and `<pipeline>_retrain`: they look, and ask for a run where one is due.

Whether one is due follows from the source, the lake and Dagster's runs alone. So a sensor that is
restarted, reset or doubled asks for nothing that it would not have asked for anyway. What it asks
for is claimed in the lake first: of two daemons one asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from etl_ml.orchestration.drifts import drifted_from, has_retrained
from etl_ml.orchestration.due import Due, backoff, due
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.orchestration.looks import Looked, Looks, StillLooking
from etl_ml.orchestration.memory import Memory
from etl_ml.orchestration.runs_at_work import Silence
from etl_ml.orchestration.state import State
from etl_ml.orchestration.stores import resource_keys, settings_of
from etl_ml.spec.automation import NewData
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import FileSource

if TYPE_CHECKING:
    from etl_ml.extract.pending import Pending
    from etl_ml.lake.stores import StoreSettings

_DRIFT_SECONDS = 60
_REFUSED_LONGEST = 300.0  # seconds between two questions to a source that gives no answer
_COUNTED = 1_000_000


def new_data_sensor(
    pipeline: Pipeline,
    asked: NewData,
    home: Path,
    lake_io: PipelineIOManager,
    job: Any,
    code_version: str,
) -> dg.SensorDefinition:
    """`<pipeline>_new_data`: asks for a run when there is enough that is new.

    Parameters
    ----------
    home : the folder of the pipeline's defs.yaml, from which relative paths start
    code_version : of `validated_data`
    """
    looks = Looks(pipeline, lake_io, code_version, asked.every_seconds)

    def look(context: dg.SensorEvaluationContext, memory: Memory) -> Looked:
        now = memory.looked
        silence = Silence(asked.every_seconds, memory.silence)
        last = looks.last_runs(context.instance, silence, now)
        memory = replace(memory, silence=silence.now)
        if isinstance(last, str):
            return memory, last
        reader, state = looks.state()
        memory = memory.of(*_known_by(state))
        settings = settings_of(pipeline.source, context.resources)
        memory, found = _ask(pipeline, asked, state, memory, home, settings)
        waited = now - memory.waits_since if memory.waits_since is not None else 0.0
        growing = pipeline.source.incremental is not None
        wanted = due(asked, state, found, waited, growing=growing, empty=memory.empty)
        if isinstance(wanted, Due) and wanted.read and waited < asked.max_wait_seconds:
            settled = not isinstance(pipeline.source, FileSource) or found.mark == memory.mark
            memory = replace(memory, mark=found.mark)
            if not settled:
                return memory, f"{found.told}; a run as soon as they stay as they are"
        if not isinstance(wanted, Due):
            return memory, wanted
        answer = looks.request(wanted, reader, state, last, silence)
        return replace(memory, silence=silence.now), answer

    @dg.sensor(
        name=f"{pipeline.name}_new_data",
        job=job,
        description=f"Asks for a run when {asked.min_rows:,} rows are new in "
        f"{pipeline.source.address}, or after {asked.max_wait_seconds:,} s for fewer.",
        minimum_interval_seconds=asked.every_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys=resource_keys(pipeline.source),
    )
    def new_data(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return _looked(context, looks, look)

    return new_data


def retrain_sensor(
    pipeline: Pipeline, lake_io: PipelineIOManager, job: Any, code_version: str
) -> dg.SensorDefinition:
    """`<pipeline>_retrain`: asks for a run that trains when a run has found drift.

    Once for each reference: what was trained on drifted rows and did not become champion would not
    do so the next time either.
    """
    looks = Looks(pipeline, lake_io, code_version, _DRIFT_SECONDS)

    def look(context: dg.SensorEvaluationContext, memory: Memory) -> Looked:
        silence = Silence(_DRIFT_SECONDS, memory.silence)
        lake = lake_io.lake()
        reference = drifted_from(lake, pipeline)
        if reference is None:
            return memory, "no drift was found"
        if has_retrained(lake, pipeline.name, reference):
            return memory, f"a model was trained on rows that have drifted from {reference}"
        last = looks.last_runs(context.instance, silence, memory.looked)
        memory = replace(memory, silence=silence.now)
        if isinstance(last, str):
            return memory, last
        reader, state = looks.state()
        why = f"rows have drifted from validated_data {reference}"
        wanted = Due(why, data=state.behind, train=True, deploy=True)
        asked = looks.request(wanted, reader, state, last, silence)
        return replace(memory, silence=silence.now), asked

    @dg.sensor(
        name=f"{pipeline.name}_retrain",
        job=job,
        description="Asks for a run that trains when new rows have drifted, once a reference.",
        minimum_interval_seconds=_DRIFT_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def retrain(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return _looked(context, looks, look)

    return retrain


Look = Callable[[dg.SensorEvaluationContext, Memory], Looked]


def _looked(context: dg.SensorEvaluationContext, looks: Looks, look: Look) -> dg.SensorResult:
    """A look's result; what is in the way of it is told, and nothing of it is an error."""
    memory = Memory.load(context.cursor, time.time())
    try:
        memory, found = looks.bounded(lambda: look(context, memory))
    except (EtlMlError, StillLooking) as error:
        found = str(error)
    if isinstance(found, dg.RunRequest):
        return dg.SensorResult(run_requests=[found], cursor=memory.dump())
    return dg.SensorResult(skip_reason=dg.SkipReason(found), cursor=memory.dump())


def _ask(
    pipeline: Pipeline,
    asked: NewData,
    state: State,
    memory: Memory,
    home: Path,
    settings: StoreSettings | None,
) -> tuple[Memory, Pending]:
    """What is new, by the source's answer, and since when it waits."""
    from etl_ml.extract.pending import Pending, pending

    now = memory.looked
    wait = memory.not_before - now
    if 0 < wait <= _REFUSED_LONGEST:
        told = f"the source gave no answer {memory.refusals} times; it is asked in {wait:,.0f} s"
        return memory, Pending(0, told)
    bound = asked.min_rows
    if state.trained_on is not None:
        bound = max(bound, asked.rows_to_train(state.trained_on) - state.rows + state.trained_on)
    try:
        found = pending(
            pipeline,
            state.raw,
            base=home,
            bound=min(bound, _COUNTED),
            settings=settings,
            watched=memory.watched,
        )
    except EtlMlError as error:
        refusals = memory.refusals + 1
        pause = min(backoff(asked.every_seconds, refusals), _REFUSED_LONGEST)
        before = now + max(pause - asked.every_seconds, 0.0)
        return replace(memory, refusals=refusals, not_before=before), Pending(0, str(error))
    waits = found.rows is None or found.rows > 0
    since = (now if memory.waits_since is None else memory.waits_since) if waits else None
    return replace(memory, waits_since=since, watched=found.watched, refusals=0), found


def _known_by(state: State) -> tuple[str, str]:
    """The newest version of `raw_data`, and what tells its rows from another's."""
    if state.raw is None or state.raw.manifest.table is None:
        return "", ""
    table = state.raw.manifest.table
    return state.raw.version, table.content or str(table.delta_version)
