"""The phishing pipeline in every kind of lake, by `ETL_ML_LAKE` alone; and carried between them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from etl_ml.deploy import champion
from etl_ml.lake import Lake, Log, open_lake
from etl_ml_tests.conftest import PHISHING
from etl_ml_tests.lake.conftest import BACKENDS, place
from etl_ml_tests.orchestration.test_component import ASSETS
from etl_ml_tests.project import Project, failure_message

# What tells when something was done, or where, or how long it took.
TIMED = (
    "leaderboard.json",
    "training_log.jsonl",
    "deployment_report.json",
    "model_card.md",
    "validation_report.html",
)


@pytest.fixture
def phishing(tmp_path: Path, phishing_attributes: dict[str, Any]) -> Project:
    project = Project(tmp_path / "project")
    data = (PHISHING / "website_phishing.csv").read_bytes()
    project.add(phishing_attributes, data, folder="phishing")
    return project


def hashes(lake: Lake) -> dict[str, Any]:
    """Every version's files and rows, as their hashes, and who is champion."""
    found: dict[str, Any] = {"log": [vars(entry) for entry in Log(lake, "phishing").entries()]}
    for asset in ASSETS:
        for name in lake.versions("phishing", asset):
            manifest = lake.open("phishing", asset, name).manifest
            found[f"{asset} {name}"] = (
                {file.path: file.sha256 for file in manifest.files},
                (manifest.table.rows, manifest.table.content) if manifest.table else None,
                dict(manifest.upstream),
                manifest.run_id,
            )
    packages = lake.backend.walk("phishing/registry/models/")
    found["packages"] = sorted((entry.name, entry.bytes) for entry in packages)
    return found


def outcome(lake: Lake) -> dict[str, Any]:
    """What does not depend on when and where a run was."""
    found = {}
    for asset in ASSETS:
        manifest = lake.open("phishing", asset).manifest
        files = {f.path: f.sha256 for f in manifest.files if f.path not in TIMED}
        found[asset] = files, manifest.table and manifest.table.content
    return found


def test_the_demo_ends_alike_in_every_kind_of_lake_and_is_carried_from_each_to_the_next(
    phishing: Project,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: dict[str, Lake] = {}
    for kind in BACKENDS:
        url = place(kind, request, tmp_path, monkeypatch)
        monkeypatch.setenv("ETL_ML_LAKE", url)
        result = phishing.materialize(pipeline="phishing")
        assert result.success, failure_message(result)
        ran[kind] = open_lake(url)
        assert [ran[kind].latest("phishing", asset) for asset in ASSETS] == ["0000000001"] * 8
        told = phishing.command("etl-ml", "show", "phishing", ETL_ML_LAKE=url)
        assert "May be deployed." in told.stdout, told.stderr
        assert ran[kind].url in told.stdout
    first = outcome(ran["local"])
    for lake in ran.values():
        assert outcome(lake) == first
        model = champion(lake, "phishing").model
        rows = lake.table("phishing", "clean_data").to_pandas()
        assert model.predict_proba(rows).shape == (len(rows), 2)

    carried = {}
    route = [*BACKENDS, "local"]
    for here, there in pairwise(route):
        folder = tmp_path / f"from {here}"
        folder.mkdir()
        target = place(there, request, folder, monkeypatch)
        source = carried.get(here) or ran["local"].url
        copied = phishing.command("etl-ml", "lake", "copy", source, target)
        assert copied.returncode == 0, copied.stderr
        assert hashes(open_lake(target)) == hashes(ran["local"])
        verified = phishing.command("etl-ml", "lake", "verify", "--json", ETL_ML_LAKE=target)
        assert verified.returncode == 0, verified.stderr
        sound = json.loads(verified.stdout)["phishing"]
        assert (sound["damage"], sound["unproven"], sound["versions"]) == ([], 0, 8)
        carried[there] = target
    monkeypatch.setenv("ETL_ML_LAKE", carried["mongodb"])
    again = phishing.materialize("raw_data", "validated_data", pipeline="phishing")
    assert again.success, failure_message(again)
    assert open_lake(carried["mongodb"]).latest("phishing", "raw_data") == "0000000002"
