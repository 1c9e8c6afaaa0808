"""The end of a run: what it took is remembered in the lake, and pushed where that is asked for.

An executor sees every step of a run, whatever runs them, and its end; hooks see steps alone.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import dagster as dg

from etl_ml.lake.ended import Ended, write_ended
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.spec.error import EtlMlError

PUSH_GATEWAY = "ETL_ML_PUSHGATEWAY"


@cache
def watched(definition: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """The same executor, at whose end each pipeline's run is remembered."""
    make = definition.executor_creation_fn
    assert make is not None
    return dg.ExecutorDefinition(
        definition.name,
        config_schema=definition.config_schema,  # type: ignore[arg-type]
        requirements=definition.get_requirements,
        executor_creation_fn=lambda context: _Watched(make(context)),
        description=definition.description,
    )


class _Watched(dg.Executor):
    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        """What an executor's own steps ask of it, as Celery's do."""
        return getattr(self._inner, name)

    @property
    def retries(self) -> Any:
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        seen: dict[str, _Steps] = defaultdict(_Steps)
        asset_of = _assets(plan_context, execution_plan)
        for event in self._inner.execute(plan_context, execution_plan):
            if event.step_key in asset_of:
                pipeline, asset = asset_of[event.step_key]
                seen[pipeline].see(event, asset)
            yield event
        for pipeline, steps in seen.items():
            _tell(plan_context, pipeline, steps)


@dataclass
class _Steps:
    """What one pipeline's steps took, and which of them failed."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    failed: set[str] = field(default_factory=set)
    _started: dict[str, float] = field(default_factory=dict)

    def see(self, event: dg.DagsterEvent, asset: str) -> None:
        key = str(event.step_key)
        if event.event_type == dg.DagsterEventType.STEP_START:
            self._started[key] = time.time()
        elif event.event_type == dg.DagsterEventType.STEP_SUCCESS:
            self.seconds[asset] += event.step_success_data.duration_ms / 1000
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
            self.seconds[asset] += time.time() - self._started.get(key, time.time())
            self.failed.add(asset)


def _assets(plan_context: Any, execution_plan: Any) -> dict[str, tuple[str, str]]:
    """By step, the pipeline and the asset that it makes; of steps of ours."""
    job = plan_context.job.get_definition()
    ours = set(_lakes(job))
    found = {}
    for key in execution_plan.step_keys_to_execute:
        step = execution_plan.get_step_by_key(key)
        assets = job.asset_layer.get_assets_def_for_node(step.node_handle)
        keys = sorted(assets.keys) if assets is not None else []
        if keys and len(keys[-1].path) == 2 and keys[-1].path[0] in ours:
            found[key] = tuple(keys[-1].path)
    return found


def _lakes(job: dg.JobDefinition) -> dict[str, PipelineIOManager]:
    """By pipeline, where the run keeps it."""
    managers = (PipelineIOManager.of(definition) for definition in job.resource_defs.values())
    keys = (key.removesuffix("__lake") for key in job.resource_defs)
    return {key: manager for key, manager in zip(keys, managers, strict=True) if manager}


def _tell(plan_context: Any, pipeline: str, steps: _Steps) -> None:
    """Whatever comes of it, the run stays what it is."""
    log = plan_context.log
    try:
        lake = _lakes(plan_context.job.get_definition())[pipeline].lake()
        ended = Ended(
            plan_context.run_id, time.time(), dict(steps.seconds), tuple(sorted(steps.failed))
        )
        write_ended(lake, pipeline, ended)
        if gateway := os.environ.get(PUSH_GATEWAY):
            from etl_ml.monitor.push import push

            push(gateway, lake, pipeline)
    except EtlMlError as error:
        log.warning(f"{pipeline}: how the run ended is not told: {error}")
    except Exception as error:  # a defect here would take the run's good end away
        log.warning(f"{pipeline}: how the run ended is not told: {type(error).__name__}")
