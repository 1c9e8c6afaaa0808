"""The package, the registry and the proof that a deployed model answers as it did in training."""

from etl_ml.deploy.deploy import Deployment, deploy
from etl_ml.deploy.package import Package, open_package
from etl_ml.deploy.registry import champion, champion_lineage, incumbent

__all__ = [
    "Deployment",
    "Package",
    "champion",
    "champion_lineage",
    "deploy",
    "incumbent",
    "open_package",
]
