"""The package, the registry and the targets: a model is served where it answers as in training."""

from etl_ml.deploy.deploy import Deployment, deploy, promote
from etl_ml.deploy.package import Package, open_package, read_package
from etl_ml.deploy.publication import Publication
from etl_ml.deploy.published import published
from etl_ml.deploy.registry import before, champion, champion_lineage, incumbent
from etl_ml.deploy.sample import Sample, sample_of
from etl_ml.deploy.target import Pointer, Target, TargetError, open_target

__all__ = [
    "Deployment",
    "Package",
    "Pointer",
    "Publication",
    "Sample",
    "Target",
    "TargetError",
    "before",
    "champion",
    "champion_lineage",
    "deploy",
    "incumbent",
    "open_package",
    "open_target",
    "promote",
    "published",
    "read_package",
    "sample_of",
]
