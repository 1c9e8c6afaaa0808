"""etl_ml: a Dagster asset-based data platform for tabular machine learning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl_ml.orchestration.azure_io_manager import AzureLakeIOManager
    from etl_ml.orchestration.component import TabularPipeline
    from etl_ml.orchestration.executor import executor
    from etl_ml.orchestration.lake_io_manager import LakeIOManager, MongoIOManager
    from etl_ml.orchestration.loading import load_pipelines
    from etl_ml.orchestration.s3_io_manager import S3LakeIOManager

__all__ = [
    "AzureLakeIOManager",
    "LakeIOManager",
    "MongoIOManager",
    "S3LakeIOManager",
    "TabularPipeline",
    "executor",
    "load_pipelines",
]
__version__ = "0.1.0"

_HOME = {
    "AzureLakeIOManager": "etl_ml.orchestration.azure_io_manager",
    "LakeIOManager": "etl_ml.orchestration.lake_io_manager",
    "MongoIOManager": "etl_ml.orchestration.lake_io_manager",
    "S3LakeIOManager": "etl_ml.orchestration.s3_io_manager",
    "TabularPipeline": "etl_ml.orchestration.component",
    "executor": "etl_ml.orchestration.executor",
    "load_pipelines": "etl_ml.orchestration.loading",
}


# Dagster is imported only by who asks for the component: the stages and the command line are not.
def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Dagster looks for components by every name in here: those that import a cloud's library are left
# to who asks for them.
def __dir__() -> list[str]:
    return ["TabularPipeline", "__version__", "executor", "load_pipelines"]
