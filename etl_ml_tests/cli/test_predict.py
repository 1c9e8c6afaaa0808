from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from etl_ml_tests.project import Project, loans


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("predict") / "project")
    project.add()
    done = project.run(project.dagster_materialize("group:loans"))
    assert done.returncode == 0, done.stderr
    loans(30, seed=4).drop("defaulted").with_columns(age=pl.Series([5, *range(20, 49)])).write_csv(
        project.root / "new.csv"
    )
    return project


def test_a_file_is_scored_and_counted(deployed: Project) -> None:
    done = deployed.command("etl-ml", "predict", "loans", "new.csv", "-o", "scored.parquet")
    assert done.returncode == 0, done.stderr
    assert "scored.parquet: 30 rows scored by loans 0000000001; 1 of them break" in done.stdout
    assert len(pl.read_parquet(deployed.root / "scored.parquet")) == 30


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("new.csv", "-o", "scored"), "does not say its format"),
        (("missing.csv", "-o", "scored.csv"), "missing.csv"),
        (("new.csv", "-o", "scored.csv", "--version", "7"), "0000000007"),
        (("new.csv", "-o", "scored.csv", "--version", "x"), "'x' is not a number"),
    ],
)
def test_what_cannot_be_done_is_told(
    deployed: Project, arguments: tuple[str, ...], told: str
) -> None:
    done = deployed.command("etl-ml", "predict", "loans", *arguments)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipeline_without_a_model_says_what_to_do(deployed: Project, tmp_path: Path) -> None:
    done = deployed.command(
        "etl-ml", "predict", "other", "new.csv", "-o", "x.csv", ETL_ML_LAKE=str(tmp_path)
    )
    assert done.returncode == 1
    assert "no model has been deployed yet" in done.stderr


def test_champions_are_decided_by_hand_and_the_log_says_by_whom(deployed: Project) -> None:
    again = deployed.run(deployed.dagster_materialize("group:loans"))
    assert again.returncode == 0, again.stderr
    done = deployed.command("etl-ml", "rollback", "loans", "--reason", "false alarms")
    assert done.returncode == 0, done.stderr
    assert "the champion is version 0000000001" in done.stdout
    told = deployed.command("etl-ml", "models", "loans", "--json").stdout
    assert '"reason": "false alarms"' in told
    report = deployed.lake.read("loans", "deployed_model", "deployment_report.json")
    assert (report["version"], report["champion"]) == ("0000000001", True)
    upstream = deployed.lake.open("loans", "deployed_model").manifest.upstream
    assert upstream["trained_model"] == "0000000001"
    none = deployed.command("etl-ml", "rollback", "loans")
    assert none.returncode == 1
    assert "no champion before this one" in none.stderr
    done = deployed.command("etl-ml", "promote", "loans", "2")
    assert done.returncode == 0, done.stderr
    assert "the champion is version 0000000002" in done.stdout
    missing = deployed.command("etl-ml", "promote", "loans", "9")
    assert missing.returncode == 1
    assert "0000000009" in missing.stderr
