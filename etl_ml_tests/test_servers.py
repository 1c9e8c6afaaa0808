"""The servers that other tests stand on: one real round trip each, and what they keep."""

from __future__ import annotations

from pathlib import Path

import boto3
import obstore
import pytest
from botocore.exceptions import ClientError
from confluent_kafka import Consumer, TopicPartition
from obstore.exceptions import AlreadyExistsError
from obstore.store import AzureStore, GCSStore, S3Store
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.gcs import Gcs
from etl_ml_tests.servers.http import Http, as_json
from etl_ml_tests.servers.kafka import Kafka
from etl_ml_tests.servers.kinesis import Kinesis
from etl_ml_tests.servers.mariadb import MariaDB
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.process import running
from etl_ml_tests.servers.prometheus import Prometheus, PushGateway
from etl_ml_tests.servers.s3 import S3


def test_mongodb_keeps_what_it_acknowledged(mongodb: MongoDB) -> None:
    for number, end in enumerate((mongodb.stop, mongodb.kill)):
        with mongodb.client() as client:
            client.tests.kept.insert_one({"_id": number})
        end()
        mongodb.start()
        with mongodb.client() as client:
            assert client.tests.kept.find_one({"_id": number}) == {"_id": number}


def test_mariadb_keeps_what_it_acknowledged(mariadb: MariaDB) -> None:
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (word VARCHAR(9))")
        cursor.execute("INSERT INTO kept VALUES ('käse🧀')")
        connection.commit()
    for end in (mariadb.stop, mariadb.kill):
        end()
        mariadb.start()
        with mariadb.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT word FROM kept")
            assert cursor.fetchall() == (("käse🧀",),)


def test_s3_creates_only_if_absent_and_keeps_it(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    store = S3Store(s3.bucket(), client_options={"allow_http": True})
    obstore.put(store, "a/b", b"first", mode="create")
    s3.stop()
    s3.start()
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a/b", b"second", mode="create")
    assert bytes(obstore.get(store, "a/b").bytes()) == b"first"


def test_s3_refuses_a_wrong_secret_and_a_reader_that_writes(s3: S3) -> None:
    bucket = s3.bucket()
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3.client(aws_secret_access_key="wrong").list_objects_v2(Bucket=bucket)
    reader = s3.client(aws_access_key_id=s3.reader_key, aws_secret_access_key=s3.reader_secret)
    assert reader.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.put_object(Bucket=bucket, Key="a", Body=b"")


def test_azurite_creates_only_if_absent_and_keeps_it(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    store = AzureStore(azurite.container())
    obstore.put(store, "a/b", b"first", mode="create")
    azurite.stop()
    azurite.start()
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a/b", b"second", mode="create")
    assert bytes(obstore.get(store, "a/b").bytes()) == b"first"


def test_gcs_is_read_by_obstore(gcs: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in gcs.environment.items():
        monkeypatch.setenv(name, value)
    bucket = gcs.bucket()
    gcs.put(bucket, "a/b", b"first")
    gcs.stop()
    gcs.start()
    store = GCSStore(bucket, client_options={"allow_http": True})
    assert bytes(obstore.get(store, "a/b").bytes()) == b"first"


def test_dynamodb_has_tables(dynamodb: DynamoDB, monkeypatch: pytest.MonkeyPatch) -> None:
    table = dynamodb.table()
    table.put_item(Item={"id": "a", "n": 1})
    for name, value in dynamodb.environment.items():
        monkeypatch.setenv(name, value)
    found = boto3.Session().resource("dynamodb").Table(table.name)
    assert found.get_item(Key={"id": "a"})["Item"]["n"] == 1


def test_kafka_keeps_what_it_acknowledged(kafka: Kafka) -> None:
    topic = kafka.topic(2)
    kafka.send(topic, ["first", None], partition=1, keys=["a", "b"])
    kafka.stop()
    kafka.start()
    consumer = Consumer({"bootstrap.servers": kafka.servers, "group.id": "look", "log_level": 0})
    consumer.assign([TopicPartition(topic, 1, 0)])
    found = consumer.consume(2, timeout=10)
    consumer.close()
    assert [(m.offset(), m.key(), m.value()) for m in found] == [
        (0, b"a", b"first"),
        (1, b"b", None),
    ]


def test_kinesis_keeps_a_closed_shard_as_it_was_and_writes_to_its_children(
    kinesis: Kinesis,
) -> None:
    stream, client = kinesis.stream(), kinesis.client()
    kinesis.send(stream, [b"before"])
    kinesis.split(stream, "shardId-000000000000")
    kinesis.send(stream, [b"after"])
    found = {}
    for shard in client.list_shards(StreamName=stream)["Shards"]:
        asked = {"StreamName": stream, "ShardId": shard["ShardId"]}
        place = client.get_shard_iterator(**asked, ShardIteratorType="TRIM_HORIZON")
        page = client.get_records(ShardIterator=place["ShardIterator"])
        found[shard["ShardId"]] = [r["Data"] for r in page["Records"]], "NextShardIterator" in page
    assert found["shardId-000000000000"] == ([b"before"], False)
    children = [found[f"shardId-00000000000{number}"] for number in (1, 2)]
    assert sorted(children) == [([], True), ([b"after"], True)]


def test_http_answers_as_told_and_remembers_who_asked(http: Http) -> None:
    http.serve("/rows", (503, {}, b""), as_json([1]))
    store = obstore.store.HTTPStore(http.url, client_options={"allow_http": True})
    assert bytes(obstore.get(store, "rows").bytes()) == b"[1]"
    assert [request.path for request in http.requests] == ["/rows", "/rows"]


def test_prometheus_scrapes_what_was_pushed(
    prometheus: Prometheus, push_gateway: PushGateway
) -> None:
    registry = CollectorRegistry()
    Gauge("pushed", "A number.", registry=registry).set(7)
    push_to_gateway(push_gateway.address, "job", registry)
    targets = f"[{{targets: ['{push_gateway.address}']}}]"
    prometheus.configure(
        f"scrape_configs: [{{job_name: p, scrape_interval: 1s, static_configs: {targets}}}]\n"
    )
    (series,) = prometheus.wait_for("pushed")
    assert series["value"][1] == "7"


def test_a_server_that_does_not_start_leaves_no_process(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    started = []

    class Deaf(DynamoDB):
        seconds = 1.5

        def ask(self) -> None:
            started.append(self._process)
            raise ConnectionError("no answer")

    with pytest.raises(RuntimeError, match="moto did not start"), running(Deaf, tmp_path_factory):
        pass
    assert started
    assert all(process is not None and process.poll() is not None for process in started)
