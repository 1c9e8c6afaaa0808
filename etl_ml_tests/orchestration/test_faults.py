"""Runs that are killed, and runs that meet each other."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from etl_ml.deploy import champion
from etl_ml.lake import Lake, Log
from etl_ml_tests.orchestration.test_component import ASSETS
from etl_ml_tests.project import Project, failure_message

_PATIENCE = 120


def verify(lake: Lake, pipeline: str = "loans") -> dict[str, list[str]]:
    """Read every committed version whole: hashes, rows, reports that speak of those rows."""
    found = {asset: lake.versions(pipeline, asset) for asset in ASSETS}
    for asset, versions in found.items():
        for name in versions:
            version = lake.open(pipeline, asset, name)
            assert version.version == name
            for file in version.manifest.files:
                version.read(file.path)
            if version.manifest.table:
                assert version.table.to_polars().height == version.manifest.table.rows
            if asset == "validated_data":
                report = version.read("validation_report.json")
                assert report["valid_rows"] == version.table.rows
            if asset == "quarantined_data":
                report = version.read("validation_report.json")
                assert report["quarantined_rows"] == version.table.rows
            if asset == "clean_data":
                assert version.read("cleaning_report.json")["rows_out"] == version.table.rows
    package = champion(lake, pipeline)
    if package:
        assert package.model.classes == [0, 1]
    return found


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a champion, and a second model that has been judged and not yet deployed."""
    project = Project(tmp_path_factory.mktemp("settled") / "project")
    project.add()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ETL_ML_LAKE", raising=False)
        for assets in (ASSETS, ASSETS[:-1]):
            result = project.materialize(*assets)
            assert result.success, failure_message(result)
    return project


@pytest.fixture
def copy(settled: Project, tmp_path: Path) -> Project:
    """The settled project, to be harmed."""
    root = tmp_path / "project"
    shutil.copytree(settled.root, root)
    project = object.__new__(Project)
    project.root, project.module = root, settled.module
    project.package = root / settled.module
    return project


def _start(project: Project, selection: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        project.dagster_materialize(selection),
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill_when(path: Path, run: subprocess.Popen[bytes], within: float) -> None:
    """SIGKILL the run and its children up to `within` seconds after `path` appears."""
    deadline = time.monotonic() + _PATIENCE
    while not path.exists():
        assert run.poll() is None, "the run ended before it came here"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    time.sleep(random.uniform(0, within))
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


@pytest.mark.parametrize("asset", ASSETS)
def test_a_run_killed_at_an_assets_claim_leaves_the_last_versions(
    copy: Project, asset: str
) -> None:
    before = verify(copy.lake)
    claimed = copy.root / ".etl_ml/lake/loans/files" / asset
    following = max(int(place.name) for place in claimed.iterdir() if place.is_dir()) + 1
    run = _start(copy, f'key:"loans/{asset}"')
    _kill_when(claimed / f"{following:010d}" / "claim.json", run, within=0.02)
    after = verify(copy.lake)
    for name, versions in after.items():
        assert versions[: len(before[name])] == before[name]
    result = copy.materialize(asset)
    assert result.success, failure_message(result)
    again = verify(copy.lake)
    assert int(again[asset][-1]) == following + 1


@pytest.mark.parametrize(
    "moment",
    [
        "registry/models/0000000002/model.skops",
        "registry/models/0000000002/manifest.json",
        "registry/log/0000000002.json",
    ],
)
def test_a_deployment_that_is_killed_is_healed_by_the_next(copy: Project, moment: str) -> None:
    run = _start(copy, 'key:"loans/deployed_model"')
    _kill_when(copy.root / ".etl_ml/lake/loans" / moment, run, within=0.005)
    verify(copy.lake)
    head = Log(copy.lake, "loans").head()
    assert head is not None
    assert head.version == ("0000000002" if "log" in moment else "0000000001")
    result = copy.materialize("deployed_model")
    assert result.success, failure_message(result)
    verify(copy.lake)
    assert [entry.version for entry in Log(copy.lake, "loans").entries()] == [
        "0000000001",
        "0000000002",
    ]
    report = copy.lake.read("loans", "deployed_model", "deployment_report.json")
    assert report["version"] == "0000000002"
    assert report["targets"][0]["verified"] is True


def test_two_materializations_at_once_never_mix(project: Project) -> None:
    project.add()
    runs = [_start(project, "group:loans") for _ in range(2)]
    assert [run.wait(timeout=300) for run in runs] == [0, 0]
    found = verify(project.lake)
    for asset in ASSETS[:-1]:
        assert found[asset] == ["0000000001", "0000000002"]
        for name in found[asset]:
            manifest = project.lake.open("loans", asset, name).manifest
            for upstream, version in manifest.upstream.items():
                above = project.lake.open("loans", upstream, version).manifest
                assert above.run_id == manifest.run_id
    log = Log(project.lake, "loans").entries()
    assert [entry.entry for entry in log] == [f"{n + 1:010d}" for n in range(len(log))]
    assert len(found["deployed_model"]) == len(log) >= 1


def test_inputs_that_do_not_belong_together_are_refused(copy: Project) -> None:
    clean = copy.materialize("transformed_arrays")
    assert clean.success
    result = copy.materialize("transformed_arrays", "model_evaluation")
    assert not result.success
    told = failure_message(result)
    assert "trained_model 0000000002 was made from transformed_arrays 0000000002" in told
    assert "transformed_arrays 0000000004" in told
    assert "materialize loans/trained_model again" in told


def test_a_damaged_champion_package_does_not_block_the_next_model(copy: Project) -> None:
    packed = copy.root / ".etl_ml/lake/loans/registry/models/0000000001/model.skops"
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    packed.write_bytes(data)
    result = copy.materialize("model_evaluation", "deployed_model")
    assert result.success, failure_message(result)
    head = Log(copy.lake, "loans").head()
    assert head is not None
    assert head.version == "0000000002"
    assert head.compared is True
