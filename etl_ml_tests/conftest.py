"""What the tests share: a lake of one's own, projects, and one finished demo run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import etl_ml
from etl_ml.lake import Lake, open_lake
from etl_ml.spec import Pipeline, parse
from etl_ml_tests.project import ATTRIBUTES, Project, attributes
from etl_ml_tests.servers.fixtures import *  # noqa: F403

PHISHING = Path(etl_ml.__file__).parent / "defs" / "phishing"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ETL_ML_LAKE", "ETL_ML_EXECUTOR", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path / "lake")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def pipeline() -> Pipeline:
    """The small pipeline over `loans()`."""
    return parse(ATTRIBUTES, file="defs.yaml")


def make_pipeline(**sections: Any) -> Pipeline:
    """The small pipeline with sections replaced or merged into."""
    return parse(attributes(**sections), file="defs.yaml")


@pytest.fixture(scope="session")
def phishing_attributes() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PHISHING / "defs.yaml").read_text())["attributes"]
    return found


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, phishing_attributes: dict[str, Any]) -> Project:
    """A project in which the phishing pipeline has been materialized once; only read it."""
    project = Project(tmp_path_factory.mktemp("demo") / "project")
    data = (PHISHING / "website_phishing.csv").read_bytes()
    project.add(phishing_attributes, data, folder="phishing")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ETL_ML_LAKE", "ETL_ML_EXECUTOR", "DAGSTER_HOME"):
            patch.delenv(name, raising=False)
        result = project.materialize(pipeline="phishing")
    assert result.success
    return project
