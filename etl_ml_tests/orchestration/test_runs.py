"""Whole runs: what they write, what they refuse, and what they leave untouched."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import metrics

from etl_ml.lake import open_lake
from etl_ml.train import load_model
from etl_ml_tests.orchestration.test_component import ASSETS
from etl_ml_tests.project import Project, attributes, checks, failure_message, loans

DATA = ("raw_data", "validated_data", "quarantined_data")
TO_EVALUATION = ASSETS[:-1]


class TestDemo:
    """The embedded pipeline, materialized once."""

    def test_every_asset_has_one_committed_version(self, demo: Project) -> None:
        for asset in ASSETS:
            assert demo.lake.versions("phishing", asset) == ["0000000001"]

    def test_the_files_are_those_of_the_contract(self, demo: Project) -> None:
        expected = {
            "raw_data": set(),
            "validated_data": {"validation_report.json", "drift_report.json", "profile.json"},
            "quarantined_data": {"validation_report.json", "drift_report.json", "profile.json"},
            "clean_data": {"clean.jsonl.gz", "cleaning_report.json"},
            "transformed_arrays": {
                "train_features.npy",
                "train_target.npy",
                "train_rows.npy",
                "test_features.npy",
                "test_target.npy",
                "test_rows.npy",
                "preprocessor.skops",
                "feature_names.json",
                "split.json",
            },
            "trained_model": {"model.skops", "leaderboard.json", "training_log.jsonl"},
            "model_evaluation": {
                "evaluation_report.json",
                "model_card.md",
                "roc.png",
                "precision_recall.png",
                "confusion_matrix.png",
                "calibration.png",
                "importance.png",
            },
            "deployed_model": {"deployment_report.json"},
        }
        for asset, files in expected.items():
            manifest = demo.lake.open("phishing", asset).manifest
            assert {file.path for file in manifest.files} >= files

    def test_the_report_agrees_with_scikit_learn(self, demo: Project) -> None:
        lake = demo.lake
        shown = demo.command("etl-ml", "show", "phishing", "--json")
        report = json.loads(shown.stdout)["model_evaluation"]["evaluation_report.json"]
        model = load_model(lake.open("phishing", "trained_model"))
        features = lake.read("phishing", "transformed_arrays", "test_features.npy")
        truth = lake.read("phishing", "transformed_arrays", "test_target.npy")
        score = model.estimator.predict_proba(features)[:, 1]
        answer = (score >= report["threshold"]).astype(int)
        expected = {
            "accuracy": metrics.accuracy_score(truth, answer),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, answer),
            "precision": metrics.precision_score(truth, answer),
            "recall": metrics.recall_score(truth, answer),
            "f1": metrics.f1_score(truth, answer),
            "mcc": metrics.matthews_corrcoef(truth, answer),
            "roc_auc": metrics.roc_auc_score(truth, score),
            "average_precision": metrics.average_precision_score(truth, score),
            "log_loss": metrics.log_loss(truth, score),
            "brier": metrics.brier_score_loss(truth, score),
        }
        found = {name: m["value"] for name, m in report["metrics"]["test"].items()}
        assert found == pytest.approx(expected, abs=1e-12)
        assert report["confusion_matrix"] == metrics.confusion_matrix(truth, answer).tolist()

    def test_the_model_answers_from_raw_rows_as_from_the_arrays(self, demo: Project) -> None:
        lake = demo.lake
        model = load_model(lake.open("phishing", "trained_model"))
        ids = lake.read("phishing", "transformed_arrays", "test_rows.npy")
        features = lake.read("phishing", "transformed_arrays", "test_features.npy")
        rows = lake.table("phishing", "clean_data").to_pandas().set_index("_etl_ml_row").loc[ids]
        shuffled = rows[sorted(rows.columns, reverse=True)]
        np.testing.assert_allclose(
            model.predict_proba(shuffled), model.estimator.predict_proba(features), atol=1e-12
        )
        assert list(model.classes_) == [0, 1]
        assert set(model.predict(shuffled)) <= {0, 1}

    def test_the_cleaned_json_is_the_clean_table(self, demo: Project) -> None:
        version = demo.lake.open("phishing", "clean_data")
        lines = gzip.decompress(version.read("clean.jsonl.gz")).splitlines()
        table = version.table.to_polars().sort("_etl_ml_row").drop("_etl_ml_row")
        assert [json.loads(line) for line in lines] == table.to_dicts()

    def test_the_manifests_name_what_they_were_made_from(self, demo: Project) -> None:
        for asset in ASSETS[1:]:
            upstream = demo.lake.open("phishing", asset).manifest.upstream
            assert upstream
            assert set(upstream.values()) == {"0000000001"}

    def test_the_package_is_complete(self, demo: Project) -> None:
        folder = demo.root / ".etl_ml/lake/phishing/registry/models/0000000001"
        assert {path.name for path in folder.iterdir()} == {
            "model.skops",
            "model.onnx",
            "signature.json",
            "profile.json",
            "evaluation_report.json",
            "onnx_report.json",
            "preprocessor.json",
            "model_card.md",
            "requirements.txt",
            "manifest.json",
        }


def test_what_a_person_sees_in_the_ui(project: Project) -> None:
    project.add()
    result = project.materialize(*TO_EVALUATION)
    assert result.success, failure_message(result)
    shown = {
        event.asset_key.path[-1]: event.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    for asset in (*DATA, "clean_data"):
        assert "dagster/row_count" in shown[asset]
    assert {"quarantined_share", "drift_effect"} <= set(shown["validated_data"])
    assert {"leaderboard", "fit_seconds"} <= set(shown["trained_model"])
    assert {"f1", "roc_auc", "model_card", "roc", "confusion_matrix"} <= set(
        shown["model_evaluation"]
    )
    assert shown["model_evaluation"]["roc"].value.startswith("![roc](data:image/png;base64,")
    for metadata in shown.values():
        assert {"version", "lake", "bytes"} <= set(metadata)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b"age,income,country,opened,defaulted\n", "a header and no rows"),
        (b"age,income,country,opened,defaulted\n30,1\n", "line 2: 2 cells, the header has 5"),
        (
            b"age,income,country,opened,defaulted\n30,1,\xff,2020-01-01,1\n",
            "line 2, byte 41: not UTF-8",
        ),
    ],
)
def test_an_unreadable_source_is_named_and_the_last_version_stays(
    project: Project, data: bytes, told: str
) -> None:
    home = project.add()
    assert project.materialize("raw_data").success
    before = project.lake.table("loans", "raw_data").to_polars()
    (home / "loans.csv").write_bytes(data)
    result = project.materialize("raw_data")
    assert not result.success
    assert told in failure_message(result)
    assert str(home / "loans.csv") in failure_message(result)
    assert "source.path" in failure_message(result)
    assert project.lake.versions("loans", "raw_data") == ["0000000001"]
    assert project.lake.table("loans", "raw_data").to_polars().equals(before)


def test_a_row_that_cannot_be_read_is_named_and_not_shown(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = loans().write_csv().splitlines()
    project.add(data="\n".join([*rows, "30,a secret"]) + "\n")
    result = project.materialize("raw_data")
    assert "line 602: 2 cells" in failure_message(result)
    logged = capfd.readouterr()
    assert "line 602: 2 cells" in logged.err
    assert "a secret" not in logged.out + logged.err


def test_a_missing_file_is_named_as_resolved(project: Project) -> None:
    home = project.add()
    (home / "loans.csv").unlink()
    result = project.materialize("raw_data")
    assert f"{home / 'loans.csv'}: there is no such file" in failure_message(result)


def test_a_truncated_gzip_is_named_with_its_byte(project: Project) -> None:
    home = project.add(attributes(source={"path": "loans.csv.gz"}), data=b"")
    whole = gzip.compress(loans(20_000).write_csv().encode())
    (home / "loans.csv.gz").write_bytes(whole[:5_000])
    result = project.materialize("raw_data")
    assert "byte 5000: the gzip stream ends too early" in failure_message(result)
    assert project.lake.versions("loans", "raw_data") == []


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        ({"income": "incmoe"}, ["the data has no column 'income'", "'incmoe'"]),
        ({}, ["column 'extra' is not in the data contract", "contract.unknown_columns: drop"]),
    ],
)
def test_other_columns_than_contracted_fail_the_schema_check(
    project: Project, rename: dict[str, str], told: list[str]
) -> None:
    data = loans().rename(rename)
    project.add(data=data if rename else data.with_columns(extra=pl.lit(1)))
    result = project.materialize(*DATA)
    assert not result.success
    assert not checks(result)["schema"].passed
    for text in told:
        assert text in failure_message(result)
    assert project.lake.versions("loans", "validated_data") == []


def test_bad_cells_are_quarantined_with_their_reason(project: Project) -> None:
    data = loans().cast(pl.String).with_row_index()
    bad = {
        0: ("age", "old"),
        1: ("income", "inf"),
        2: ("age", "9" * 25),
        3: ("opened", "2021-02-30"),
    }
    for row, (column, value) in bad.items():
        changed = pl.when(pl.col("index") == row).then(pl.lit(value)).otherwise(pl.col(column))
        data = data.with_columns(changed.alias(column))
    project.add(data=data.drop("index"))
    result = project.materialize(*DATA)
    assert result.success, failure_message(result)
    found = project.lake.table("loans", "quarantined_data").to_polars()
    reasons = {
        (row["_reasons"][0], row[row["_reasons"][0].split(":")[0]]) for row in found.to_dicts()
    }
    assert reasons == {(f"{column}: type", value) for column, value in bad.values()}
    values = checks(result)["values"]
    assert not values.passed
    assert values.severity == dg.AssetCheckSeverity.WARN


def test_too_much_quarantined_stops_the_run_and_keeps_the_rows_to_look_at(project: Project) -> None:
    project.add()
    assert project.materialize(*DATA).success
    project.add(data=loans().with_columns(country=pl.lit("XX")))
    result = project.materialize(*TO_EVALUATION)
    assert not result.success
    told = failure_message(result)
    assert "600 of 600 rows (100.0%)" in told
    assert "validation.max_quarantined is 5.0%" in told
    assert "country: allowed (600 rows)" in told
    assert not checks(result)["quarantined_share"].passed
    assert project.lake.versions("loans", "validated_data") == ["0000000001"]
    assert project.lake.table("loans", "quarantined_data").rows == 600
    assert project.lake.versions("loans", "clean_data") == []


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([1] * 600, "one class only (1: 600 rows)"),
        ([1] * 2 + [0] * 598, "too few rows for training.folds = 3: 1: 2 rows"),
    ],
)
def test_a_target_that_cannot_be_learned_is_counted_and_named(
    project: Project, labels: list[int], told: str
) -> None:
    project.add(data=loans().with_columns(defaulted=pl.Series(labels)))
    result = project.materialize(*DATA)
    assert not result.success
    assert told in failure_message(result)
    assert not checks(result)["target"].passed


@pytest.mark.parametrize("selected", ["validated_data", "quarantined_data"])
def test_whichever_of_the_two_is_selected_both_are_written(project: Project, selected: str) -> None:
    project.add()
    result = project.materialize("raw_data", selected)
    assert result.success
    for asset in ("validated_data", "quarantined_data"):
        assert project.lake.versions("loans", asset) == ["0000000001"]
    told = {e.asset_key.path[-1] for e in result.get_asset_materialization_events()}
    assert told == set(DATA)


def test_a_model_below_a_gate_ends_a_green_run_with_the_champion_unchanged(
    project: Project,
) -> None:
    project.add()
    assert project.materialize().success
    project.add(attributes(evaluation={"gates": {"f1": 0.999}}))
    result = project.materialize()
    assert result.success, failure_message(result)
    assert not checks(result)["gates"].passed
    answers = checks(result)["answers_as_trained"]
    assert answers.passed
    assert answers.metadata["skipped"].value is True
    assert project.lake.versions("loans", "deployed_model") == ["0000000001"]
    report = project.lake.read("loans", "model_evaluation", "evaluation_report.json")
    assert report["deployable"] is False
    assert "misses its gate 0.999" in report["reasons"][0]
    shown = json.loads(project.command("etl-ml", "models", "loans", "--json").stdout)
    assert shown["champion"] == "0000000001"
    assert len(shown["history"]) == 1


def _without_times(value: Any) -> Any:
    timed = ("fit_seconds", "seconds", "created_at", "run_id")
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in timed}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        project = Project(tmp_path / name)
        project.add(attributes(training={"folds": 3, "candidates": ["lightgbm", "random_forest"]}))
        result = project.materialize(*TO_EVALUATION)
        assert result.success, failure_message(result)
        files = {}
        for asset in TO_EVALUATION:
            version = project.lake.open("loans", asset)
            for file in version.manifest.files:
                timed = file.path in ("leaderboard.json", "training_log.jsonl")
                content = version.read(file.path) if timed else version.read_bytes(file.path)
                files[asset, file.path] = _without_times(content)
            if version.manifest.table:
                files[asset, "table"] = version.table.content_hash()
        data_versions = {
            e.asset_key.path[-1]: e.materialization.tags["dagster/data_version"]
            for e in result.get_asset_materialization_events()
        }
        found.append((files, data_versions))
    (first, first_versions), (second, second_versions) = found
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert first_versions == second_versions


def test_a_run_that_is_retried_reads_what_its_parent_wrote(project: Project) -> None:
    home = project.add()
    (project.package / "jobs.py").write_text(
        f"from {project.module}.definitions import defs\n\n\n"
        "def job():\n    return defs().resolve_job_def('loans_job')\n"
    )
    loans(300, seed=1).write_csv(home / "newer.csv")
    script = f"""
import os, dagster as dg
from {project.module}.jobs import job
again = dg.reconstructable(job)
with dg.instance_for_test() as instance:
    first = dg.execute_job(again, instance=instance)
    os.replace({str(home / "newer.csv")!r}, {str(home / "loans.csv")!r})
    keys = [dg.AssetKey(["loans", name]) for name in {DATA}]
    assert dg.execute_job(again, instance=instance, asset_selection=keys).success
    retried = dg.execute_job(
        again,
        instance=instance,
        reexecution_options=dg.ReexecutionOptions(first.run_id, ["loans__clean_data"]),
    )
    assert retried.success
    print(retried.run_id)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert project.lake.latest("loans", "validated_data") == "0000000002"
    clean = project.lake.open("loans", "clean_data", 2).manifest
    assert clean.run_id == done.stdout.split()[-1]
    assert clean.upstream == {"validated_data": "0000000001"}


def test_an_asset_that_asks_for_a_frame_gets_one_that_keeps_the_contract(project: Project) -> None:
    project.add()
    project.write_definitions(
        """
        from pathlib import Path

        import dagster as dg
        import pandas as pd
        import polars as pl

        IN = {"validated_data": dg.AssetIn(key=["loans", "validated_data"])}


        @dg.asset(ins=IN)
        def as_pandas(validated_data: pd.DataFrame) -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"rows": len(validated_data)})


        @dg.asset(ins=IN)
        def as_polars(validated_data: pl.DataFrame) -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"rows": validated_data.height})


        @dg.definitions
        def defs() -> dg.Definitions:
            pipelines = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
            own = dg.Definitions(assets=[as_pandas, as_polars], executor=dg.in_process_executor)
            return dg.Definitions.merge(pipelines, own)
        """
    )
    assert project.materialize(*DATA).success
    done = project.run(project.dagster_materialize("as_pandas,as_polars"))
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_pandas_type_refuses_a_frame_that_breaks_the_contract() -> None:
    from etl_ml.orchestration.pandas_type import dataframe_type
    from etl_ml_tests.conftest import make_pipeline

    kind = dataframe_type(make_pipeline().contract)
    good = loans().with_columns(pl.col("income").cast(pl.Float64)).to_pandas()
    assert kind.type_check(None, good).success
    bad = good.assign(income=-1.0)
    checked = kind.type_check(None, bad)
    assert not checked.success
    assert "income" in str(checked.description)
    assert isinstance(good, pd.DataFrame)


def test_the_lake_of_a_run_is_the_one_that_the_environment_names(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add()
    monkeypatch.setenv("ETL_ML_LAKE", str(tmp_path / "elsewhere"))
    assert project.materialize("raw_data").success
    assert open_lake(tmp_path / "elsewhere").versions("loans", "raw_data") == ["0000000001"]
    assert not (project.root / ".etl_ml").exists()
