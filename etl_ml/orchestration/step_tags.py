"""What a pipeline's `resources:` say, as the tags that dagster-k8s reads."""

from __future__ import annotations

from typing import Any

from etl_ml.orchestration.executor import named_executor
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.resources import Step, largest

_CONFIG = "dagster-k8s/config"


def step_tags(pipeline: Pipeline, asset: Step) -> dict[str, Any]:
    """Tags of an asset's step: what its pod asks for, under the executor `k8s`."""
    resources = pipeline.resources.get(asset)
    return _tags(resources.asked() if resources else {})


def run_tags(pipeline: Pipeline) -> dict[str, Any]:
    """Tags of the pipeline's job: what the pod of a run asks for.

    Where the run's own process runs the steps, it needs what the largest of them does; elsewhere
    it only waits for them.
    """
    alone = named_executor() in ("in_process", "multiprocess")
    return _tags(largest(pipeline.resources.values())) if alone else {}


def _tags(asked: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {_CONFIG: {"container_config": {"resources": asked}}} if asked else {}
