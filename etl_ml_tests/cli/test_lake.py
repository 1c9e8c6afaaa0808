"""`etl-ml lake`, as a person and as a program use it, on a folder and on S3."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from etl_ml.lake import Contents, Lake, open_lake
from etl_ml_tests.lake.conftest import place
from etl_ml_tests.project import Project


@pytest.fixture(params=["local", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake of five versions, which `ETL_ML_LAKE` names."""
    url = place(request.param, request, tmp_path, monkeypatch)
    lake = open_lake(url)
    for number in range(5):
        rows = pl.LazyFrame({"x": [number, 7]})
        files = {"x.json": {"x": number}, "x.npy": np.arange(9)}
        lake.write("p", "a", Contents(rows, files))
    return lake


def test_vacuum_says_what_it_would_remove_and_then_removes_that(
    project: Project, kept: Lake
) -> None:
    vacuum = ["etl-ml", "lake", "vacuum", "--keep", "2", "--older-than", "0m"]
    planned = project.command(*vacuum, "--dry-run", ETL_ML_LAKE=kept.url)
    assert planned.returncode == 0, planned.stderr
    assert f"Would remove from {kept.url}" in planned.stdout
    assert len(kept.versions("p", "a")) == 5
    done = project.command(*vacuum, "--json", ETL_ML_LAKE=kept.url)
    removed = json.loads(done.stdout)["p"]
    assert removed["versions"] == ["a 0000000001", "a 0000000002", "a 0000000003"]
    assert kept.versions("p", "a") == ["0000000004", "0000000005"]
    assert kept.table("p", "a").to_polars()["x"].to_list() == [4, 7]
    young = project.command("etl-ml", "lake", "vacuum", "--keep", "1", ETL_ML_LAKE=kept.url)
    assert f"Removed from {kept.url}" in young.stdout
    assert len(kept.versions("p", "a")) == 2


def test_verify_names_what_is_damaged_and_ends_with_one(project: Project, kept: Lake) -> None:
    verify = [sys.executable, "-m", "etl_ml.cli", "lake", "verify"]
    sound = project.run(verify, ETL_ML_LAKE=kept.url)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert kept.url in sound.stdout
    kept.backend.put("p/files/a/0000000002/x.json", b'{"x": 2}')
    kept.backend.delete("p/files/a/0000000003/x.npy")
    damaged = project.run(verify, ETL_ML_LAKE=kept.url)
    assert damaged.returncode == 1
    assert "a 0000000002: x.json is not the file that was committed" in damaged.stderr
    assert f"{kept.url}/p/files/a/0000000002/x.json" in damaged.stderr
    assert "a 0000000003: x.npy is missing" in damaged.stderr
    told = project.run([*verify, "--json", "--pipeline", "p"], ETL_ML_LAKE=kept.url)
    assert told.returncode == 1
    assert len(json.loads(told.stdout)["p"]["damage"]) == 2


def test_copy_carries_a_lake_and_says_what_was_there_already(
    project: Project, kept: Lake, tmp_path: Path
) -> None:
    target = str(tmp_path / "target")
    copy = ["etl-ml", "lake", "copy", kept.url, target]
    first = project.command(*copy, "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["p"]["objects"] > 20
    again = project.command(*copy)
    assert f"{kept.url} to {target}" in again.stdout
    there = open_lake(target)
    assert there.versions("p", "a") == kept.versions("p", "a")
    assert there.table("p", "a", 3).to_polars()["x"].to_list() == [2, 7]
    there.write("p", "a", Contents(files={"x.json": 1}))
    refused = project.command(*copy)
    assert refused.returncode == 1
    assert "has versions of p that" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("vacuum", "--older-than", "soon"), "write a number and m, h, d or w"),
        (("vacuum", "--keep", "0"), "0"),
        (("copy", "ftp://x/y", "z"), "a lake at ftp:// cannot be opened"),
        (("copy", "{lake}", "target", "--pipeline", "q"), "there is no pipeline 'q'"),
        (("copy",), "FROM"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(
    project: Project, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    lake = open_lake(tmp_path / "lake")
    lake.write("p", "a", Contents(files={"x.json": 1}))
    given = [argument.replace("{lake}", lake.url) for argument in arguments]
    done = project.command("etl-ml", "lake", *given, ETL_ML_LAKE=lake.url)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_credentials_that_are_refused_are_told_without_a_traceback_or_the_secret(
    project: Project,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = place("s3", request, tmp_path, monkeypatch)
    wrong = {"AWS_SECRET_ACCESS_KEY": "a-wrong-secret"}
    done = project.command("etl-ml", "lake", "vacuum", ETL_ML_LAKE=url, **wrong)
    assert done.returncode == 1
    assert "the credentials are refused" in done.stderr
    assert url in done.stderr
    assert "Traceback" not in done.stderr
    assert "a-wrong-secret" not in done.stderr
