"""`deployed_model` with targets: by its assets, by Dagster's command and by `etl-ml`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from etl_ml.deploy import published
from etl_ml.lake import Log
from etl_ml.train import load_model
from etl_ml.transform import rows_of
from etl_ml_tests.conftest import PHISHING
from etl_ml_tests.deploy.places import KINDS, place
from etl_ml_tests.project import Project, attributes, checks, failure_message
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.s3 import S3

FIRST, SECOND = "0000000001", "0000000002"


def with_target(**deployment: Any) -> dict[str, Any]:
    """Publishes to the folder `published`, beside the project."""
    targets = [{"type": "file", "url": "../../../published"}]
    return attributes(deployment={"targets": targets, **deployment})


def served(project: Project) -> str | None:
    pointer = published(str(project.root / "published" / "loans")).current()
    return pointer.version if pointer else None


def told(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with two champions one after the other; only read it."""
    project = Project(tmp_path_factory.mktemp("twice") / "project")
    project.add(with_target())
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ETL_ML_LAKE", raising=False)
        for _ in range(2):
            result = project.materialize()
            assert result.success, failure_message(result)
    assert served(project) == SECOND
    return project


@pytest.fixture
def copy(twice: Project, tmp_path: Path) -> Project:
    """The project with two champions, to be changed."""
    root = tmp_path / "project"
    shutil.copytree(twice.root, root)
    project = object.__new__(Project)
    project.root, project.module = root, twice.module
    project.package = root / twice.module
    return project


def test_the_phishing_model_is_served_equal_to_training_from_all_targets_at_once(
    project: Project,
    phishing_attributes: dict[str, Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = [place(kind, request, tmp_path, monkeypatch) for kind in KINDS]
    for each in places:
        each.name = "phishing"
    targets = [each.section for each in places]
    data = (PHISHING / "website_phishing.csv").read_bytes()
    project.add(phishing_attributes | {"deployment": {"targets": targets}}, data)
    result = project.materialize(pipeline="phishing")
    assert result.success, failure_message(result)
    report = project.lake.read("phishing", "deployed_model", "deployment_report.json")
    assert [target["type"] for target in report["targets"]] == [*KINDS, "registry"]
    assert all(target["verified"] for target in report["targets"])
    assert max(target["max_abs_difference"] for target in report["targets"]) <= 1e-6

    made = {
        asset: project.lake.open("phishing", asset)
        for asset in ("clean_data", "transformed_arrays", "trained_model")
    }
    rows = rows_of(
        made["clean_data"].table.scan(), made["transformed_arrays"].read("test_rows.npy")
    )
    expected = load_model(made["trained_model"]).predict_proba(rows)
    for each in places:
        package = each.champion()
        assert package is not None
        answers = package.model.predict_proba(rows)
        assert np.abs(answers - expected).max() <= 1e-12, each.kind


def test_a_target_is_an_asset_behind_deployed_model(project: Project) -> None:
    targets: list[Any] = [
        {"type": "s3", "url": "s3://models/a"},
        {"type": "s3", "url": "s3://models/b"},
        {"type": "gcs", "url": "gs://models/c"},
        "own.targets:Registry",
    ]
    project.add(attributes(deployment={"targets": targets}))
    with project.loaded() as defs:
        specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    names = [key for key in specs if key.startswith("loans/target/")]
    assert sorted(names) == [f"loans/target/{n}" for n in ("Registry", "gcs", "s3", "s3_2")]
    spec = specs["loans/target/s3_2"]
    assert [dep.asset_key.to_user_string() for dep in spec.deps] == ["loans/deployed_model"]
    assert (spec.kinds, spec.description) == ({"s3"}, "The champion at s3://models/b.")


def test_loading_a_pipeline_with_targets_imports_none_of_their_libraries(
    project: Project,
) -> None:
    everywhere = [
        {"type": "s3", "url": "s3://models/a", "resource": "my_s3"},
        {"type": "azure_blob", "url": "az://models/a"},
        {"type": "gcs", "url": "gs://models/c"},
    ]
    code = (
        "import sys\n"
        f"import {project.module}.definitions as d\n"
        "d.defs()\n"
        "print(sorted(sys.modules))"
    )
    imported = []
    for targets in ([], everywhere):
        project.add(attributes(deployment={"targets": targets}))
        done = project.run([*project.script("python"), "-c", code])
        assert done.returncode == 0, done.stderr
        imported.append(done.stdout)
    assert imported[0] == imported[1]
    assert "'etl_ml.deploy" not in imported[1]
    assert "'google.cloud" not in imported[1]


def test_a_model_waits_for_approval_and_the_command_promotes_it(project: Project) -> None:
    project.add(with_target(approval="manual"))
    result = project.materialize()
    assert result.success, failure_message(result)
    assert checks(result)["answers_as_trained"].passed
    report = project.lake.read("loans", "deployed_model", "deployment_report.json")
    assert (report["champion"], report["version"]) == (False, FIRST)
    assert report["reasons"] == [f"approval is manual: etl-ml promote loans {FIRST}"]
    assert all(target["verified"] for target in report["targets"])
    assert served(project) is None
    assert Log(project.lake, "loans").head() is None
    (materialized,) = result.asset_materializations_for_node("loans__deployed_model")
    assert materialized.metadata["waits_for_approval"].value == FIRST

    done = project.command("etl-ml", "promote", "loans", "1", "--reason", "seen by the risk team")
    assert done.returncode == 0, told(done)
    assert f"loans: the champion is version {FIRST}." in done.stdout
    assert served(project) == FIRST
    (entry,) = Log(project.lake, "loans").entries()
    assert entry.reason == "seen by the risk team"
    assert entry.by
    assert entry.run_id
    after = project.lake.open("loans", "deployed_model")
    assert after.read("deployment_report.json")["champion"] is True
    assert after.manifest.upstream["trained_model"] == FIRST


def test_a_materialization_with_config_promotes_as_the_ui_does(copy: Project) -> None:
    config = {"promote": "1", "reason": "too many alarms", "by": "the one on call"}
    ops = {"ops": {"loans__deployed_model": {"config": config}}}
    command = copy.dagster_materialize('key:"loans/deployed_model"')
    done = copy.run([*command, "--config-json", json.dumps(ops)])
    assert done.returncode == 0, told(done)
    entry = Log(copy.lake, "loans").head()
    assert entry is not None
    assert (entry.version, entry.by, entry.reason) == (FIRST, "the one on call", "too many alarms")
    assert served(copy) == FIRST
    report = copy.lake.read("loans", "deployed_model", "deployment_report.json")
    assert report["reasons"] == ["too many alarms"]


def test_a_rollback_goes_back_at_the_target_too_and_not_further_than_the_first(
    copy: Project,
) -> None:
    done = copy.command("etl-ml", "rollback", "loans", "--reason", "wrong prices")
    assert done.returncode == 0, told(done)
    assert served(copy) == FIRST
    log = Log(copy.lake, "loans").entries()
    assert [entry.version for entry in log] == [FIRST, SECOND, FIRST]
    assert log[-1].reason == "wrong prices"
    history = copy.command("etl-ml", "models", "loans", "--json")
    assert json.loads(history.stdout)["champion"] == FIRST
    again = copy.command("etl-ml", "rollback", "loans")
    assert again.returncode
    assert f"there is no champion before this one: {FIRST} is the first champion" in told(again)
    assert "etl-ml promote loans VERSION" in told(again)


def test_a_rollback_to_a_version_whose_files_are_gone_is_refused_and_named(
    copy: Project,
) -> None:
    registry = copy.root / ".etl_ml/lake/loans/registry/models" / FIRST
    (registry / "model.skops").unlink()
    done = copy.command("etl-ml", "rollback", "loans")
    assert done.returncode
    assert f"loans {FIRST}: model.skops is missing." in told(done)
    assert f"{FIRST} was not promoted." in told(done)
    shutil.rmtree(registry)
    done = copy.command("etl-ml", "rollback", "loans")
    assert done.returncode
    assert f"no package of version {FIRST} can be read: there is no manifest.json" in told(done)
    assert str(registry) in told(done)
    assert "promote another one; `etl-ml models loans` shows them" in told(done)
    assert "dagster" not in told(done).lower()  # before a run is begun
    assert served(copy) == SECOND
    assert [e.version for e in Log(copy.lake, "loans").entries()] == [FIRST, SECOND]


def test_promoting_what_there_is_not_is_refused(copy: Project) -> None:
    done = copy.command("etl-ml", "promote", "loans", "7")
    assert done.returncode
    assert "no package of version 0000000007 can be read" in told(done)
    wrong = copy.command("etl-ml", "promote", "loans", "seven")
    assert wrong.returncode
    assert "'seven' is not a number" in told(wrong)


def test_a_model_below_its_gate_deploys_nothing_and_heals_a_target_that_was_lost(
    copy: Project,
) -> None:
    shutil.rmtree(copy.root / "published")
    pipeline = with_target()
    copy.add(pipeline | {"evaluation": {"gates": {"f1": 1.0}}})
    result = copy.materialize()
    assert result.success, failure_message(result)
    check = checks(result)["answers_as_trained"]
    assert check.passed
    reasons = check.metadata["reasons"].value
    assert any("misses its gate" in reason for reason in reasons)
    assert any(f"brought up to the champion, {SECOND}" in reason for reason in reasons)
    assert served(copy) == SECOND
    assert copy.lake.versions("loans", "deployed_model") == [FIRST, SECOND]


def fails(project: Project, target: dict[str, Any], **environment: str) -> str:
    """What Dagster's command prints where a target cannot be used; the assets are there."""
    home = project.package / "defs" / "loans" / "defs.yaml"
    document = yaml.safe_load(home.read_text())
    document["attributes"]["deployment"] = {"targets": [target]}
    home.write_text(yaml.safe_dump(document))
    done = project.run(
        project.dagster_materialize('key:"loans/deployed_model"'),
        **{"AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true", **environment},
    )
    assert done.returncode
    assert [entry.version for entry in Log(project.lake, "loans").entries()] == [FIRST, SECOND]
    return told(done)


def test_a_wrong_bucket_a_wrong_key_and_a_dead_endpoint_are_told_without_secrets(
    copy: Project, s3: S3, dynamodb: DynamoDB
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "hunter2-hunter2"}
    target = {"type": "s3", "url": "s3://no-such-bucket/models"}

    # moto, unlike SeaweedFS, makes no bucket that is written to.
    output = fails(copy, target | {"endpoint": dynamodb.endpoint}, **keys)
    assert "s3 target: loans/champions cannot be listed: there is no such bucket" in output
    assert "where     s3://no-such-bucket/models/loans" in output
    assert "fix it    create it, or correct the URL" in output
    assert "The champion stays." in output
    assert "hunter2" not in output

    output = fails(copy, target | {"endpoint": s3.endpoint}, **keys)
    assert "the credentials are refused, or may not do this" in output
    assert "check the credentials" in output
    assert "hunter2" not in output

    output = fails(copy, target | {"endpoint": "http://127.0.0.1:9"}, **keys)
    assert "the store does not answer as it should" in output
    assert "check the endpoint" in output
    assert "hunter2" not in output


def test_the_credentials_are_those_of_a_dagster_resource(
    project: Project, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("THE_SECRET", s3.secret)
    project.write_definitions(
        f"""
        from pathlib import Path

        import dagster as dg
        from dagster_aws.s3 import S3Resource

        import etl_ml


        @dg.definitions
        def defs() -> dg.Definitions:
            store = S3Resource(
                endpoint_url="{s3.endpoint}",
                region_name="{s3.region}",
                aws_access_key_id="{s3.key}",
                aws_secret_access_key=dg.EnvVar("THE_SECRET"),
            )
            pipelines = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
            mine = dg.Definitions(executor=etl_ml.executor(), resources={{"models": store}})
            return dg.Definitions.merge(pipelines, mine)
        """
    )
    bucket = s3.bucket()
    target = {"type": "s3", "url": f"s3://{bucket}/models", "resource": "models"}
    project.add(attributes(deployment={"targets": [target]}))
    done = project.run(project.dagster_materialize("group:loans"))
    assert done.returncode == 0, told(done)
    assert s3.secret not in told(done)
    report = project.lake.read("loans", "deployed_model", "deployment_report.json")
    assert report["targets"][0]["verified"] is True
    found = s3.client().list_objects_v2(Bucket=bucket, Prefix="models/loans/champions/")
    assert found["KeyCount"] == 1


@pytest.mark.parametrize(
    ("target", "right"),
    [
        ("own.targets:Registry", True),
        ({"type": "own.targets:Registry", "url": "https://models"}, True),
        ({"type": "gcs", "url": "gs://models/x"}, True),
        ("registry", False),
        ({"type": "gcs", "url": "s3://models/x"}, False),
    ],
)
def test_dg_check_takes_and_refuses_what_the_parser_does(
    project: Project, target: Any, right: bool
) -> None:
    project.add(attributes(deployment={"targets": [target]}))
    done = project.command("dg", "check", "defs")
    assert (done.returncode == 0) == right, told(done)
    if not right:
        assert "deployment" in told(done)
        assert "targets" in told(done)


def test_a_run_tells_the_ui_where_the_model_is_and_how_far_off_it_was(twice: Project) -> None:
    report = twice.lake.read("loans", "deployed_model", "deployment_report.json")
    target, registry = report["targets"]
    assert target["url"] == str(twice.root / "published" / "loans")
    assert registry["url"] == f"{twice.lake.url}/loans/registry/models/{SECOND}"
