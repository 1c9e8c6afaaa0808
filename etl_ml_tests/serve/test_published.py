"""The phishing model, deployed by its pipeline, is served from each store by its URL alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etl_ml.deploy import Pointer, published
from etl_ml.deploy.signing import SIGNING_KEY, TRUSTED_KEYS, new_keys
from etl_ml.lake import Lake
from etl_ml.train import load_model
from etl_ml.transform import rows_of
from etl_ml_tests.conftest import PHISHING
from etl_ml_tests.project import Project, failure_message
from etl_ml_tests.serve.serving import refused, serving
from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.s3 import S3

KINDS = ("file", "s3", "azure_blob")


class Deployed:
    """A lake, and the URL and variables by which each target is served; all signed by one key."""

    def __init__(self, lake: Lake, variables: dict[str, dict[str, str]], public: str) -> None:
        self.lake, self.public = lake, public
        self._variables = variables
        report = lake.read("phishing", "deployed_model", "deployment_report.json")
        self.urls = {target["type"]: str(target["url"]) for target in report["targets"]}

    def environment(self, kind: str) -> dict[str, str]:
        return self._variables[kind] | {TRUSTED_KEYS: self.public}

    def asked(self) -> tuple[bytes, Any]:
        """Test rows as CSV, and what training answered to them."""
        arrays = self.lake.open("phishing", "transformed_arrays")
        clean = self.lake.open("phishing", "clean_data").table.scan()
        rows = rows_of(clean, arrays.read("test_rows.npy"))
        model = load_model(self.lake.open("phishing", "trained_model"))
        return rows.write_csv().encode(), model.predict_proba(rows)


@pytest.fixture(scope="module")
def deployed(
    s3: S3,
    azurite: Azurite,
    phishing_attributes: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    project = Project(tmp_path_factory.mktemp("published") / "project")
    targets = [
        {"type": "file", "url": str(project.root / "models")},
        {"type": "s3", "url": f"s3://{s3.bucket()}/models"},
        {"type": "azure_blob", "url": f"az://{azurite.container()}/models"},
    ]
    data = (PHISHING / "website_phishing.csv").read_bytes()
    attributes = phishing_attributes | {"deployment": {"targets": targets}}
    project.add(attributes, data, folder="phishing")
    private, public = new_keys()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ETL_ML_LAKE", "ETL_ML_EXECUTOR", "DAGSTER_HOME"):
            patch.delenv(name, raising=False)
        for name, value in (s3.environment | azurite.environment | {SIGNING_KEY: private}).items():
            patch.setenv(name, value)
        result = project.materialize(pipeline="phishing")
        assert result.success, failure_message(result)
        variables = {"file": {}, "s3": s3.environment, "azure_blob": azurite.environment}
        yield Deployed(project.lake, variables, public)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_served_from_a_store_answers_as_in_training(deployed: Deployed, kind: str) -> None:
    rows, expected = deployed.asked()
    with serving(None, deployed.urls[kind], extra=deployed.environment(kind)) as service:
        told = service.get("/version").json
        assert (told["model"], told["signed_by"]) == ("phishing", deployed.public)
        answers = service.post(rows, kind="text/csv").json
    difference = np.abs(np.asarray(answers["probabilities"]) - expected)
    # The package's model is ONNX, which computes in float32; see onnx_report.json.
    assert difference.max() <= 1e-4
    assert np.median(difference) <= 1e-6
    assert answers["predictions"] == (expected[:, 1] >= 0.5).astype(int).tolist()
    assert len(answers["predictions"]) > 200


def test_a_champion_that_follows_in_a_store_is_followed(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "s3"
    for name, value in deployed.environment(kind).items():
        monkeypatch.setenv(name, value)
    target = published(deployed.urls[kind])
    with serving(
        None, deployed.urls[kind], "--poll-seconds", "0.2", extra=deployed.environment(kind)
    ) as service:
        target.point(Pointer(2, "0000000007"))
        service.wait_for("0000000001 goes on answering")
        assert service.metric("etl_ml_serve_packages_total", result="refused") >= 1
        assert service.get("/version").json["version"] == "0000000001"
        target.point(Pointer(3, "0000000001"))
        looked = service.metric("etl_ml_serve_champion_seen_timestamp_seconds")
        while service.metric("etl_ml_serve_champion_seen_timestamp_seconds") == looked:
            time.sleep(0.05)
        assert service.get("/ping").status == 200


@pytest.mark.parametrize("kind", ["s3", "azure_blob"])
def test_a_store_that_gives_nothing_is_told_at_the_start(deployed: Deployed, kind: str) -> None:
    secret = {"s3": "AWS_SECRET_ACCESS_KEY", "azure_blob": "AZURE_STORAGE_ACCOUNT_KEY"}[kind]
    wrong = deployed.environment(kind) | {secret: "bm90IHRoZSBrZXk="}
    done = refused(None, deployed.urls[kind], extra=wrong)
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "fix it" in done.stderr
    assert "Traceback" not in done.stderr
    assert "bm90IHRoZSBrZXk=" not in done.stderr + done.stdout


def test_a_package_that_nobody_trusted_has_signed_is_not_served(deployed: Deployed) -> None:
    _, another = new_keys()
    done = refused(None, deployed.urls["file"], extra={TRUSTED_KEYS: another})
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "signed" in done.stderr
    assert Path(deployed.urls["file"]).is_dir()
