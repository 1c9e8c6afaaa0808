"""What a pipeline's sensors have in common: who is at work, one claim a run, a look in time."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Lock, Thread

import dagster as dg

from etl_ml.lake.backend import AlreadyExists
from etl_ml.lake.documents import dump_json
from etl_ml.orchestration.due import Due, backoff
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.orchestration.memory import Memory
from etl_ml.orchestration.runs_at_work import GOAL_TAG, WHY_TAG, LastRuns, Silence, at_work
from etl_ml.orchestration.state import DATA, MODEL, State, StateReader
from etl_ml.spec.pipeline import Pipeline

LOOK_SECONDS = 50.0  # Dagster ends a look after 60
CLAIM_SECONDS = 30.0
_SLACK = 60.0  # by which Dagster's clock and ours may differ

Looked = tuple[Memory, dg.RunRequest | str]
"""What a sensor keeps, and the run that it asks for or why it asks for none."""


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
        self._looking: Future[Looked] | None = None
        self._turn = Lock()

    def state(self) -> tuple[StateReader, State]:
        lake = self._lake_io.lake()
        if self._reader is None or self._lake is not lake:
            self._lake, self._reader = lake, StateReader(lake, self.pipeline, self._code_version)
        return self._reader, self._reader.read()

    def last_runs(
        self, instance: dg.DagsterInstance, silence: Silence, now: float
    ) -> LastRuns | str:
        """How the last runs ended, or why no run may be asked for now."""
        lake, name = self._lake_io.lake(), self.pipeline.name
        working = at_work(instance, lake, name, silence)
        if working is not None:
            return working
        last = LastRuns.of(instance, lake, name)
        if last.failures:
            wait = backoff(self.every, last.failures) - max(now - last.ended, 0.0)
            # Where the clock went back, the wait would have no end.
            if wait > 0 and now > last.ended - _SLACK:
                times = f"{last.failures} runs in a row have failed, the last"
                told = times if last.failures > 1 else "the last run failed,"
                return f"{told} {last.newest[:8]}; it is asked for again in {wait:,.0f} s"
        return last

    def request(
        self, due: Due, reader: StateReader, state: State, last: LastRuns, silence: Silence
    ) -> dg.RunRequest | str:
        """The run, or that another daemon asks for it."""
        name = self.pipeline.name
        raw = state.raw.version if state.raw is not None else "none"
        key = f"{raw}-{last.newest or 'first'}"
        if not self._claimed(key) and not silence.lasts(f"asked {key}", "", CLAIM_SECONDS):
            return "another daemon has asked for the run"
        whole = due.read and due.train
        selection = None if whole else self._selection(due, reader)
        goal = "train" if due.train else "data" if due.data else "deploy"
        return dg.RunRequest(
            run_key=f"{name}:{key}:{goal}",
            asset_selection=selection,
            tags={GOAL_TAG: goal, WHY_TAG: due.why},
        )

    def bounded(self, look: Callable[[], Looked]) -> Looked:
        """What a look gives, if it does so in time; one that does not is waited for.

        What a late one gives is told by the next, unless it is a run: by then it may not be due.

        Raises
        ------
        StillLooking
        """
        with self._turn:
            late = self._looking
            if late is not None and not late.done():
                raise StillLooking("the look before this one has not ended yet")
            self._looking = None
            if late is not None:
                memory, told = late.result()
                if isinstance(told, str):
                    return memory, told
            asked = self._looking = Future[Looked]()
        Thread(target=_into, args=(asked, look), daemon=True).start()
        wait([asked], LOOK_SECONDS)
        if not asked.done():
            raise StillLooking(f"the look has not ended within {LOOK_SECONDS:g} s; it goes on")
        self._looking = None
        return asked.result()

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


def _into(found: Future[Looked], look: Callable[[], Looked]) -> None:
    try:
        found.set_result(look())
    except BaseException as error:  # told where the look was asked for
        found.set_exception(error)
