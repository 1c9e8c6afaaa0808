"""etl_ml: a Dagster asset-based data platform for tabular machine learning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl_ml.orchestration.component import TabularPipeline
    from etl_ml.orchestration.executor import executor
    from etl_ml.orchestration.loading import load_pipelines

__all__ = ["TabularPipeline", "executor", "load_pipelines"]
__version__ = "0.1.0"

_HOME = {
    "TabularPipeline": "etl_ml.orchestration.component",
    "executor": "etl_ml.orchestration.executor",
    "load_pipelines": "etl_ml.orchestration.loading",
}


# Dagster is imported only by who asks for the component: the stages and the command line are not.
def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
