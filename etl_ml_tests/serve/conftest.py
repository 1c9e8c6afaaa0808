"""Lakes with deployed models, made once; and a service over each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl_ml.deploy import Package, deploy, open_package
from etl_ml.lake import Lake, open_lake
from etl_ml.spec import Pipeline
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import loans
from etl_ml_tests.serve.serving import Serving, serving
from etl_ml_tests.train.stages import fit, judge, prepare


def deployed(lake: Lake, pipeline: Pipeline, rows: Any = None, models: int = 1) -> list[Package]:
    """Train and deploy a pipeline's models, one after the other; the last is champion."""
    arrays = prepare(lake, pipeline, loans() if rows is None else rows)
    packages = []
    for _ in range(models):
        made = judge(lake, pipeline, fit(lake, pipeline, arrays))
        stages = ("trained_model", "model_evaluation", "transformed_arrays", "clean_data")
        with pytest.MonkeyPatch.context() as patch:
            # Deployment's own tests ask a fresh process; here the service asks the package.
            patch.setattr("etl_ml.deploy.push.largest_difference", lambda *_: 0.0)
            done = deploy(lake, pipeline, *(made[stage] for stage in stages))
        assert done.report is not None, (done.problem, done.skipped)
        packages.append(open_package(lake, pipeline.name, done.report["version"]))
    return packages


@pytest.fixture(scope="session")
def loans_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with two champions of `loans`, one after the other; only read it."""
    lake = open_lake(tmp_path_factory.mktemp("serve") / "lake")
    deployed(lake, make_pipeline(), models=2)
    return Path(lake.url)


@pytest.fixture
def own_lake(loans_lake: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    shutil.copytree(loans_lake, tmp_path / "lake")
    return tmp_path / "lake"


@pytest.fixture(scope="session")
def service(loans_lake: Path) -> Iterator[Serving]:
    """The champion of `loans` over HTTP."""
    with serving(loans_lake, "loans") as running:
        yield running
