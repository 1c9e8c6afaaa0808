"""`<pipeline>_job`, and what starts it without anybody's asking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from etl_ml.orchestration.code_version import code_version
from etl_ml.orchestration.executor import executor
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.orchestration.runs_at_work import PIPELINE_TAG
from etl_ml.orchestration.schedules import build_schedule
from etl_ml.orchestration.sensors import new_data_sensor, retrain_sensor
from etl_ml.orchestration.step_tags import run_tags
from etl_ml.spec.pipeline import Pipeline


def build_jobs(pipeline: Pipeline, home: Path, lake_io: PipelineIOManager) -> dg.Definitions:
    """The job of a pipeline, its schedule and its sensors; an executor is bound to the job alone.

    Parameters
    ----------
    home : the folder of the pipeline's defs.yaml, from which relative paths start
    """
    automation = pipeline.automation
    job = dg.define_asset_job(
        f"{pipeline.name}_job",
        selection=dg.AssetSelection.groups(pipeline.name),
        description=pipeline.description or f"All of {pipeline.name}.",
        executor_def=executor(),
        tags={PIPELINE_TAG: pipeline.name, **run_tags(pipeline)},
    )
    validated = code_version(pipeline, "validated_data")
    sensors: list[Any] = []
    if automation.new_data is not None:
        asked = automation.new_data
        sensors.append(new_data_sensor(pipeline, asked, home, lake_io, job, validated))
    if automation.retrain_on_drift:
        sensors.append(retrain_sensor(pipeline, lake_io, job, validated))
    schedules = []
    if automation.schedule is not None:
        schedules.append(build_schedule(pipeline, automation.schedule, job))
    return dg.Definitions(jobs=[job], schedules=schedules, sensors=sensors)
