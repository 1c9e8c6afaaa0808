"""Destinations, from the YAML to the finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from gridfs import GridFS

from etl_ml.deploy.registry import champion
from etl_ml_tests.project import Project, attributes, failure_message
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.s3 import S3

_WITH_STORE = """
    from pathlib import Path

    import dagster as dg
    from dagster_aws.s3 import S3Resource

    import etl_ml


    @dg.definitions
    def defs() -> dg.Definitions:
        pipelines = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
        own = dg.Definitions(resources={"store": STORE}, executor=etl_ml.executor())
        return dg.Definitions.merge(pipelines, own)
"""


def facts(result: Any, name: str) -> dict[str, Any]:
    events = [e for e in result.all_events if e.is_step_materialization]
    (event,) = [e for e in events if e.asset_key.path == ["loans", name]]
    return {k: v.value for k, v in event.materialization.metadata.items()}


def test_a_model_gets_to_a_folder_to_s3_and_to_gridfs_and_the_next_run_changes_nothing(
    project: Project,
    mongodb: MongoDB,
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = s3.bucket()
    load = [
        {"type": "file", "what": "model", "path": str(tmp_path / "models")},
        {"type": "file", "what": "model", "path": f"s3://{bucket}/models"},
        {
            **{"type": "mongodb", "what": "model", "uri": mongodb.uri},
            **{"database": "models", "collection": "packages"},
        },
    ]
    project.add(attributes(load=load))
    result = project.materialize()
    assert result.success, failure_message(result)
    package = champion(project.lake, "loans")
    assert package is not None
    files = dict(package.contents())

    def is_there() -> None:
        pointer = json.loads((tmp_path / "models" / "latest.json").read_text())
        assert pointer == {"version": package.version, "files": sorted(files)}
        here = tmp_path / "models" / package.version
        assert {n: (here / n).read_bytes() for n in files} == files
        client = s3.client()
        read = {
            n: client.get_object(Bucket=bucket, Key=f"models/{package.version}/{n}")["Body"].read()
            for n in files
        }
        assert read == files
        body = client.get_object(Bucket=bucket, Key="models/latest.json")["Body"].read()
        assert json.loads(body) == pointer
        with mongodb.client() as database:
            grid = GridFS(database.models, "packages")
            named = database.models["packages.latest"].find_one({"_id": "loans"})
            assert named is not None
            assert named["version"] == package.version
            assert {f.rpartition("/")[2] for f in named["files"]} == {
                n.rpartition("/")[2] for n in files
            }
            assert sorted(grid.get(f).read() for f in named["files"]) == sorted(files.values())
            assert database.models["packages.files"].count_documents({}) == len(files)

    is_there()
    again = project.materialize("loaded_data")
    assert again.success, failure_message(again)
    assert facts(again, "loaded_data")["mongodb/model"] == f"{package.version}, as before"
    is_there()


def test_rows_are_loaded_also_where_no_model_passes_its_gates(
    project: Project, tmp_path: Path
) -> None:
    load = [
        {"type": "file", "path": str(tmp_path / "rows")},
        {"type": "file", "what": "model", "path": str(tmp_path / "models")},
    ]
    project.add(attributes(load=load, evaluation={"gates": {"f1": 0.9999}}))
    result = project.materialize()
    assert champion(project.lake, "loans") is None
    rows = pl.read_parquet(tmp_path / "rows" / "rows.parquet")
    assert rows.height == project.lake.table("loans", "clean_data").rows
    assert facts(result, "loaded_data")["file_2/model"] == "none is deployed yet"
    assert not (tmp_path / "models").exists()


def test_a_destination_takes_its_credentials_from_a_resource(project: Project, s3: S3) -> None:
    bucket = s3.bucket()
    project.add(
        attributes(load=[{"type": "file", "path": f"s3://{bucket}/out", "resource": "store"}])
    )
    store = (
        f"S3Resource(endpoint_url={s3.endpoint!r}, region_name={s3.region!r}, "
        f"aws_access_key_id={s3.key!r}, aws_secret_access_key={s3.secret!r})"
    )
    project.write_definitions(_WITH_STORE.replace("STORE", store))
    run = project.run(project.dagster_materialize('+key:"loans/loaded_data"'))
    assert run.returncode == 0, run.stderr[-3000:]
    assert s3.secret not in run.stderr + run.stdout
    body = s3.client().get_object(Bucket=bucket, Key="out/rows.parquet")["Body"].read()
    assert pl.read_parquet(body).height == project.lake.table("loans", "clean_data").rows


def test_a_destination_that_refuses_keeps_the_others_from_nothing(
    project: Project, mongodb: MongoDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWAY", f"mongodb://loader:hidden-secret@127.0.0.1:{mongodb.port}")
    away = {"type": "mongodb", "uri": "{{ env.AWAY }}", "database": "d", "collection": "c"}
    project.add(attributes(load=[away, {"type": "file", "path": str(tmp_path / "rows")}]))
    result = project.materialize("raw_data", "validated_data", "clean_data", "loaded_data")
    assert not result.success
    message = failure_message(result)
    assert "1 of 2 destinations are behind" in message
    assert "the user or the password is wrong" in message
    assert "hidden-secret" not in message
    rows = pl.read_parquet(tmp_path / "rows" / "rows.parquet")
    assert rows.height == project.lake.table("loans", "clean_data").rows
