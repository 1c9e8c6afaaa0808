"""What a pipeline is: pure pydantic models of a `defs.yaml`, one module per stage."""

from etl_ml.spec.contract import Column, Contract
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.parse import InvalidPipeline, parse
from etl_ml.spec.pipeline import Pipeline

__all__ = ["Column", "Contract", "EtlMlError", "InvalidPipeline", "Pipeline", "parse"]
