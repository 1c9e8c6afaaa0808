"""MLflow: a real tracking server, and none."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_ml.train.tracking import track
from etl_ml_tests.conftest import make_pipeline

BOARD = [
    {
        "candidate": "lightgbm",
        "params": {"num_leaves": 7},
        "metric": "f1",
        "mean": 0.9,
        "std": 0.01,
        "folds": [0.89, 0.91],
        "fit_seconds": 1.5,
    },
    {
        "candidate": "svm",
        "params": {},
        "metric": "f1",
        "mean": None,
        "std": None,
        "folds": [],
        "fit_seconds": 0.0,
        "error": "ValueError: no",
    },
]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home}/runs.db"]
    command += ["--artifacts-destination", str(home / "artifacts")]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log)
    try:
        for _ in range(240):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (home / "log").read_text()[-2000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_a_training_is_a_run_with_its_trials_and_its_leaderboard(server: str) -> None:
    from mlflow import MlflowClient

    pipeline = make_pipeline(training={"tracking": {"mlflow": server}})
    assert track(pipeline, BOARD, "0000000001") is None
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("loans")
    assert experiment is not None
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    assert len(runs) == 3
    (parent,) = [run for run in runs.values() if "transformed_arrays" in run.data.tags]
    assert parent.data.params == {"num_leaves": "7"}
    assert parent.data.metrics["f1_mean"] == 0.9
    children = [r for r in runs.values() if r.data.tags.get("mlflow.parentRunId")]
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED"]
    files = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert files == ["leaderboard.json"]


def test_a_tracker_that_is_away_is_told_without_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://user:secret@127.0.0.1:{free_port()}"
    told = track(make_pipeline(training={"tracking": {"mlflow": uri}}), BOARD, "0000000001")
    assert told is not None
    assert "MLflow could not be written to" in told
    assert "secret" not in told
