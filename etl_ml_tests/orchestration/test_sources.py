"""Sources and what they need, from the YAML to the finished run."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl
import pytest

from etl_ml_tests.extract.collections import collection
from etl_ml_tests.project import ATTRIBUTES, Project, attributes, failure_message, loans
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.s3 import S3


def orders(server: MongoDB, database: str, **source: Any) -> dict[str, Any]:
    columns = ATTRIBUTES["contract"]["columns"] | {"updated_at": {"type": "datetime"}}
    return attributes(
        source={
            "type": "mongodb",
            "uri": "{{ env.LOANS_URI }}",
            "database": database,
            "collection": "loans",
            **source,
        },
        contract={"columns": columns},
        cleaning={"drop_columns": ["updated_at"]},
    )


def documents(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [
        row | {"updated_at": now, "opened": datetime.combine(row["opened"], datetime.min.time())}
        for row in loans(rows, seed).to_dicts()
    ]


def facts(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    events = result.asset_materializations_for_node(f"loans__{asset}")
    return {name: value.value for name, value in events[0].metadata.items()}


def test_a_collection_becomes_a_model_and_the_next_run_appends(
    mongodb: MongoDB, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A password that the server does not ask for, and that must be seen nowhere.
    monkeypatch.setenv("LOANS_URI", f"{mongodb.uri}/?appName=hidden-secret")
    with collection(mongodb) as source:
        source.insert_many(documents(600))
        project.add(orders(mongodb, source.database.name, incremental={"cursor": "updated_at"}))
        first = project.materialize()
        assert first.success, failure_message(first)
        assert facts(first, "raw_data")["dagster/row_count"] == 600
        assert facts(first, "raw_data")["cursor"].startswith("updated_at 20")
        source.insert_many(documents(100, seed=1))
        source.insert_one({"age": 40, "colour": "red", "updated_at": datetime.now(UTC)})
        second = project.materialize()
        assert second.success, failure_message(second)
        source.delete_many({"colour": "red"})
        run = project.command("etl-ml", "refresh", "loans", LOANS_URI=mongodb.uri)
        assert run.returncode == 0, run.stderr
        shown = project.command("etl-ml", "show", "loans", "raw_data").stdout
    assert facts(second, "raw_data")["dagster/row_count"] == 701
    report = project.lake.read("loans", "validated_data", "validation_report.json")
    assert (report["rows"], report["quarantined_rows"]) == (701, 1)
    assert project.lake.table("loans", "raw_data").rows == 700
    assert "rows     700" in shown
    assert "cursor   updated_at 20" in shown
    everything = [p for p in project.root.rglob("*") if p.is_file() and "loans" in str(p)]
    assert not [p for p in everything if b"hidden-secret" in p.read_bytes()]


def test_a_source_that_cannot_be_read_fails_the_run_with_what_to_do(
    mongodb: MongoDB, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"mongodb://loans:hidden-secret@127.0.0.1:{mongodb.port}"
    monkeypatch.setenv("LOANS_URI", uri)
    project.add(orders(mongodb, "loans"))
    result = project.materialize("raw_data")
    assert not result.success
    message = failure_message(result)
    assert "the server refuses the user" in message
    assert "hidden-secret" not in message
    assert project.lake.versions("loans", "raw_data") == []


def test_a_refresh_outside_of_a_project_says_where_to_go(project: Project) -> None:
    (project.root / "pyproject.toml").unlink()
    run = project.command("etl-ml", "refresh", "loans")
    assert run.returncode == 1
    assert "this folder is in no Dagster project" in run.stderr


def test_a_store_resource_gives_its_settings() -> None:
    from dagster_aws.s3 import S3Resource
    from dagster_azure.blob import AzureBlobStorageKeyCredential, AzureBlobStorageResource

    from etl_ml.lake.stores import StoreSettings
    from etl_ml.orchestration.stores import settings_from
    from etl_ml.spec import EtlMlError

    s3 = S3Resource(
        endpoint_url="http://h:1",
        region_name="eu-1",
        aws_access_key_id="k",
        aws_secret_access_key="hidden",
    )
    found = settings_from(s3, "s3")
    assert found == StoreSettings("http://h:1", "eu-1", "k", "hidden")
    assert "hidden" not in repr(found)
    azure = AzureBlobStorageResource(
        account_url="https://acme.blob.core.windows.net",
        credential=AzureBlobStorageKeyCredential(key="hidden"),
    )
    found = settings_from(azure, "azure")
    assert (found.key, found.secret) == ("acme", "hidden")
    with pytest.raises(EtlMlError, match="is a str"):
        settings_from("x", "store")


def test_clean_rows_are_taken_to_every_destination(
    mongodb: MongoDB, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOANS_URI", mongodb.uri)
    with collection(mongodb) as place:
        to = {"type": "mongodb", "uri": "{{ env.LOANS_URI }}", "collection": "clean"}
        pipeline = attributes(
            load=[
                {**to, "database": place.database.name},
                {"type": "sql", "url": f"sqlite:///{project.root}/loans.db", "table": "clean"},
                {"type": "file", "path": "out/clean.csv.gz"},
            ]
        )
        home = project.add(pipeline)
        for _ in range(2):
            result = project.materialize()
            assert result.success, failure_message(result)
        assert place.database["clean"].count_documents({}) == 600
    with sqlite3.connect(project.root / "loans.db") as database:
        assert database.execute("SELECT count(*), sum(age) FROM clean").fetchone() == (
            600,
            loans()["age"].sum(),
        )
    assert pl.read_csv(home / "out" / "clean.csv.gz").height == 600
    report = project.lake.read("loans", "loaded_data", "load_report.json")
    assert [one["rows"] for one in report["destinations"]] == [600, 600, 600]
    with project.loaded() as defs:
        keys = {key.to_user_string() for key in defs.resolve_all_asset_keys()}
    assert {"loans/destination/mongodb", "loans/destination/sql"} <= keys


def test_a_dagster_resource_gives_a_source_its_credentials(s3: S3, project: Project) -> None:
    bucket = s3.bucket()
    s3.client().put_object(Bucket=bucket, Key="in/loans.csv", Body=loans().write_csv().encode())
    project.add(
        attributes(source={"path": f"s3://{bucket}/in/*.csv", "resource": "bank"}), folder="loans"
    )
    project.write_definitions(
        """
        import os
        from pathlib import Path

        import dagster as dg
        from dagster_aws.s3 import S3Resource


        @dg.definitions
        def defs() -> dg.Definitions:
            bank = S3Resource(
                endpoint_url=dg.EnvVar("BANK_URL"),
                region_name="us-east-1",
                aws_access_key_id=dg.EnvVar("BANK_KEY"),
                aws_secret_access_key=dg.EnvVar("BANK_SECRET"),
            )
            pipelines = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
            return dg.Definitions.merge(pipelines, dg.Definitions(resources={"bank": bank}))
        """
    )
    command = project.dagster_materialize('key:"loans/raw_data"')
    environment = {"BANK_URL": s3.endpoint, "BANK_KEY": s3.key, "BANK_SECRET": s3.secret}
    run = project.run(command, **environment)
    assert run.returncode == 0, run.stderr[-3000:]
    assert project.lake.table("loans", "raw_data").rows == 600
    assert s3.secret not in run.stdout + run.stderr
