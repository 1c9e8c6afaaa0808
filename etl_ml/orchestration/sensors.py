"""`<pipeline>_new_data` and `<pipeline>_retrain`: they look, and ask for a run where one is due.

Whether one is due follows from the source, the lake and Dagster's runs alone. So a sensor that is
restarted, reset or doubled asks for nothing that it would not have asked for anyway. What it asks
for is claimed in the lake first: of two daemons one asks.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from etl_ml.lake.backend import AlreadyExists
from etl_ml.lake.documents import dump_json
from etl_ml.orchestration.drifts import drifted_from, has_retrained
from etl_ml.orchestration.due import Due, backoff, due
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.orchestration.memory import Memory
from etl_ml.orchestration.runs_at_work import GOAL_TAG, WHY_TAG, LastRuns, Silence, at_work
from etl_ml.orchestration.state import DATA, MODEL, State, StateReader
from etl_ml.orchestration.stores import resource_keys, settings_of
from etl_ml.spec.automation import NewData
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import FileSource

if TYPE_CHECKING:
    from etl_ml.extract.pending import Pending
    from etl_ml.lake.stores import StoreSettings

T = TypeVar("T")
_DRIFT_SECONDS = 60
_REFUSED_LONGEST = 300.0  # seconds between two questions to a source that gives no answer
_LOOK_SECONDS = 50.0  # Dagster ends a look after 60
_CLAIM_SECONDS = 30.0
_COUNTED = 1_000_000


class StillLooking(Exception):
    """A look takes longer than it may."""


class Looks:
    """What both sensors of a pipeline do: they see who is at work, and ask at most once."""

    def __init__(
        self, pipeline: Pipeline, lake_io: PipelineIOManager, code_version: str, every: float
    ) -> None:
        self.pipeline, self._lake_io, self.every = pipeline, lake_io, every
        self._code_version = code_version
        self._reader: StateReader | None = None
        self._lake: object = None
        self._thread: Thread | None = None

    def state(self) -> tuple[StateReader, State]:
        lake = self._lake_io.lake()
        if self._reader is None or self._lake is not lake:
            self._lake, self._reader = lake, StateReader(lake, self.pipeline, self._code_version)
        return self._reader, self._reader.read()

    def hindered(
        self, instance: dg.DagsterInstance, silence: Silence, last: LastRuns, now: float
    ) -> str | None:
        """Why no run may be asked for now."""
        working = at_work(instance, self._lake_io.lake(), self.pipeline.name, silence)
        if working is not None:
            return working
        if last.failures:
            wait = backoff(self.every, last.failures) - (now - last.ended)
            # Where the clock went back, the wait would have no end.
            if 0 < wait <= backoff(self.every, last.failures):
                times = f"{last.failures} runs in a row have failed, the last"
                told = times if last.failures > 1 else "the last run failed,"
                return f"{told} {last.newest[:8]}; it is asked for again in {wait:,.0f} s"
        return None

    def request(
        self, due: Due, reader: StateReader, state: State, last: LastRuns, silence: Silence
    ) -> dg.RunRequest | str:
        """The run, or that another daemon asks for it."""
        name = self.pipeline.name
        raw = state.raw.version if state.raw is not None else "none"
        key = f"{raw}-{last.newest or 'first'}"
        if not self._claimed(key) and not silence.lasts(f"asked {key}", "", _CLAIM_SECONDS):
            return "another daemon has asked for the run"
        whole = due.read and due.train
        selection = None if whole else self._selection(due, reader)
        goal = "train" if due.train else "data" if due.data else "deploy"
        return dg.RunRequest(
            run_key=f"{name}:{key}:{goal}",
            asset_selection=selection,
            tags={GOAL_TAG: goal, WHY_TAG: due.why},
        )

    def bounded(self, look: Callable[[], T]) -> T:
        """What a look gives, if it does so in time; one that does not is waited for.

        Raises
        ------
        StillLooking
        """
        if self._thread is not None and self._thread.is_alive():
            raise StillLooking("the look before this one has not ended yet")
        found: list[T] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                found.append(look())
            except BaseException as error:  # raised where the look was asked for
                failed.append(error)

        self._thread = Thread(target=work, daemon=True)
        self._thread.start()
        self._thread.join(_LOOK_SECONDS)
        if failed:
            raise failed[0]
        if not found:
            raise StillLooking(f"the look has not ended within {_LOOK_SECONDS:g} s; it goes on")
        return found[0]

    def _claimed(self, key: str) -> bool:
        """Whether the claim is ours; those before it have served."""
        backend, folder = self._lake_io.lake().backend, f"{self.pipeline.name}/asked"
        try:
            backend.create(f"{folder}/{key}.json", dump_json({"by": secrets.token_hex(8)}))
        except AlreadyExists:
            return False
        for name in backend.objects(folder):
            if name != f"{key}.json":
                backend.delete(f"{folder}/{name}")
        return True

    def _selection(self, due: Due, reader: StateReader) -> list[dg.AssetKey]:
        pipeline = self.pipeline
        names = [*(["raw_data"] if due.read else []), *(DATA if due.data else ())]
        if due.deploy:
            names += MODEL if due.train else ["deployed_model"]
        models = any(destination.what == "model" for destination in pipeline.load)
        if pipeline.load and (due.data or models):
            names.append("loaded_data")
        if pipeline.predictions is not None and (due.deploy or reader.champion()):
            names.append("predictions")
        return [dg.AssetKey([pipeline.name, name]) for name in names]


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

    def look(context: dg.SensorEvaluationContext, memory: Memory) -> tuple[Memory, Any]:
        now = memory.looked
        silence = Silence(asked.every_seconds, memory.silence)
        last = LastRuns.of(context.instance, lake_io.lake(), pipeline.name)
        hindered = looks.hindered(context.instance, silence, last, now)
        memory = replace(memory, silence=silence.now)
        if hindered is not None:
            return memory, hindered
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

    def look(context: dg.SensorEvaluationContext, memory: Memory) -> tuple[Memory, Any]:
        silence = Silence(_DRIFT_SECONDS, memory.silence)
        lake = lake_io.lake()
        reference = drifted_from(lake, pipeline)
        if reference is None:
            return memory, "no drift was found"
        if has_retrained(lake, pipeline.name, reference):
            return memory, f"a model was trained on rows that have drifted from {reference}"
        last = LastRuns.of(context.instance, lake_io.lake(), pipeline.name)
        hindered = looks.hindered(context.instance, silence, last, memory.looked)
        memory = replace(memory, silence=silence.now)
        if hindered is not None:
            return memory, hindered
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


Look = Callable[[dg.SensorEvaluationContext, Memory], tuple[Memory, Any]]


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
