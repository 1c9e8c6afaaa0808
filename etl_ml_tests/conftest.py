"""What the tests share: a lake of one's own, projects, and one finished demo run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import etl_ml
from etl_ml.lake import Lake, open_lake
from etl_ml.spec import Pipeline, parse
from etl_ml_tests.project import ATTRIBUTES, Project, attributes
from etl_ml_tests.servers.fixtures import *  # noqa: F403

_LONGEST = (
    "test_daemon.py",
    "test_sensors.py",
    "test_policies.py",
    "test_deployment.py",
    "test_alerts.py",
    "test_init.py",
    "test_faults.py",
    "test_targets.py",
    "test_docs.py",
    "test_damage.py",
    "test_executor.py",
    "test_writers.py",
    "test_openapi.py",
)
PHISHING = Path(etl_ml.__file__).parent / "defs" / "phishing"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half of the time a test waits for a server, or for a process that it has started."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, or everybody waits for it in the end."""
    items.sort(
        key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else 99
    )


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
