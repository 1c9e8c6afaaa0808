"""Lakes with two evaluated models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from etl_ml.deploy.deploy import Deployment
from etl_ml.lake import Lake, open_lake
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.models import run, versions
from etl_ml_tests.project import loans
from etl_ml_tests.train.stages import fit, judge, prepare


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with two evaluated models and no champion; only read it."""
    lake = open_lake(tmp_path_factory.mktemp("deploy") / "lake")
    arrays = prepare(lake, make_pipeline(), loans())
    for _ in range(2):
        judge(lake, make_pipeline(), fit(lake, make_pipeline(), arrays))
    return Path(lake.url)


@pytest.fixture(scope="session")
def deployed(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Deployment]:
    """The same lake with the first model deployed; only read it."""
    home = tmp_path_factory.mktemp("deployed") / "lake"
    shutil.copytree(judged, home)
    lake = open_lake(home)
    return home, run(lake, versions(lake))


@pytest.fixture
def fresh(judged: Path, tmp_path: Path) -> Lake:
    """A lake with two evaluated models and no champion."""
    shutil.copytree(judged, tmp_path / "copy")
    return open_lake(tmp_path / "copy")


@pytest.fixture(scope="session")
def settled(deployed: tuple[Path, Deployment], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first model is champion, and the second was compared with it; only read it."""
    home = tmp_path_factory.mktemp("settled") / "lake"
    shutil.copytree(deployed[0], home)
    lake = open_lake(home)
    judge(lake, make_pipeline(), versions(lake, 2))
    return home


@pytest.fixture
def ready(settled: Path, tmp_path: Path) -> Lake:
    """A lake whose first model is champion, and whose second can be deployed."""
    shutil.copytree(settled, tmp_path / "copy")
    return open_lake(tmp_path / "copy")
