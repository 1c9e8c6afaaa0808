"""The code location: every pipeline under `defs/`."""

from pathlib import Path

import dagster as dg

import etl_ml


@dg.definitions
def defs() -> dg.Definitions:
    """Load all pipelines; `ETL_ML_EXECUTOR` says how their steps run."""
    pipelines = etl_ml.load_pipelines(Path(__file__).parent)
    return dg.Definitions.merge(pipelines, dg.Definitions(executor=etl_ml.executor()))
