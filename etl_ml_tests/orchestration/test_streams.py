"""Streams, from the message to the deployed model."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from etl_ml.deploy import champion
from etl_ml_tests.orchestration.test_sources import facts
from etl_ml_tests.project import Project, attributes, failure_message, loans
from etl_ml_tests.servers.kafka import Kafka
from etl_ml_tests.servers.kinesis import Kinesis


def messages(rows: int, seed: int = 0) -> list[bytes]:
    return [json.dumps(row, default=str).encode() for row in loans(rows, seed).to_dicts()]


def test_a_topic_becomes_a_model_and_the_next_run_appends(
    kafka: Kafka, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A password that the broker does not look at, and that must be seen nowhere.
    monkeypatch.setenv("LOANS_PASSWORD", "hidden-secret")
    topic = kafka.topic(2)
    kafka.send(topic, messages(400))
    kafka.send(topic, messages(200, seed=1), partition=1)
    security = {"protocol": "SASL_PLAINTEXT", "user": "lake"}
    source: dict[str, Any] = {
        "type": "kafka",
        "bootstrap_servers": kafka.servers,
        "topics": [topic],
        "group": "loans-lake",
        "security": {**security, "password": "{{ env.LOANS_PASSWORD }}"},
    }
    project.add(attributes(source=source))
    first = project.materialize()
    assert first.success, failure_message(first)
    assert facts(first, "raw_data")["dagster/row_count"] == 600
    assert f"{topic}/0:400, {topic}/1:200" in facts(first, "raw_data")["cursor"]
    model = champion(project.lake, "loans")
    assert model is not None
    assert model.model.predict_proba(loans(10).to_pandas()).shape == (10, 2)

    kafka.send(topic, [*messages(99, seed=2), b'{"age": 17', b'{"age": 40, "colour": "red"}'])
    kafka.delete_records(topic, 410)
    second = project.materialize()
    assert second.success, failure_message(second)
    told = facts(second, "raw_data")
    assert (told["dagster/row_count"], told["new_rows"]) == (691, 91)
    assert told["gaps"] == f"- {topic}/0: offsets 400 to 409"
    bad = project.lake.table("loans", "quarantined_data").to_polars().sort("_offset")
    places = bad.select("_topic", "_partition", "_offset").rows()
    assert places == [(topic, 0, 499), (topic, 0, 500)]
    assert "(message): json" in bad["_reasons"][0].to_list()
    assert "colour: unknown_columns" in bad["_reasons"][1].to_list()

    # What is in the lake is what was sent, row by row.
    sent = pl.concat([loans(400), loans(200, 1), loans(99, 2)[10:]])
    clean = project.lake.table("loans", "clean_data").to_polars().select(sent.columns)
    assert clean.sort(clean.columns).equals(sent.cast(dict(clean.schema)).sort(sent.columns))
    assert kafka.group_offsets("loans-lake", topic, 2) == [501, 200]

    shown = project.command("etl-ml", "show", "loans", "raw_data").stdout
    assert f"gap      {topic}/0: offsets 400 to 409" in shown
    asked = project.command("etl-ml", "quarantine", "loans", LOANS_PASSWORD="hidden-secret")
    assert "(message): json" in asked.stdout
    run = project.command("etl-ml", "refresh", "loans", LOANS_PASSWORD="hidden-secret")
    assert run.returncode == 0, run.stderr
    assert project.lake.table("loans", "raw_data").rows == 291
    everything = [p for p in project.root.rglob("*") if p.is_file() and "loans" in str(p)]
    assert not [p for p in everything if b"hidden-secret" in p.read_bytes()]


def test_a_stream_of_kinesis_becomes_a_model_by_a_resources_credentials(
    kinesis: Kinesis, project: Project
) -> None:
    stream = kinesis.stream(2)
    kinesis.send(stream, messages(500))
    kinesis.split(stream, "shardId-000000000000")
    kinesis.send(stream, messages(100, seed=1))
    source = {"type": "kinesis", "stream": stream, "endpoint": kinesis.endpoint}
    project.add(attributes(source={**source, "resource": "bank"}))
    project.write_definitions(
        """
        from pathlib import Path

        import dagster as dg
        from dagster_aws.s3 import S3Resource

        import etl_ml


        @dg.definitions
        def defs() -> dg.Definitions:
            bank = S3Resource(
                endpoint_url="http://127.0.0.1:9",
                region_name="us-east-1",
                aws_access_key_id="k",
                aws_secret_access_key=dg.EnvVar("BANK_SECRET"),
            )
            pipelines = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
            own = dg.Definitions(resources={"bank": bank}, executor=etl_ml.executor())
            return dg.Definitions.merge(pipelines, own)
        """
    )
    command = project.dagster_materialize("group:loans")
    run = project.run(command, BANK_SECRET="hidden-secret")
    assert run.returncode == 0, run.stderr[-3000:]
    assert "hidden-secret" not in run.stdout + run.stderr
    sent = pl.concat([loans(500), loans(100, 1)])
    clean = project.lake.table("loans", "clean_data").to_polars().select(sent.columns)
    assert clean.sort(clean.columns).equals(sent.cast(dict(clean.schema)).sort(sent.columns))
    assert champion(project.lake, "loans") is not None
