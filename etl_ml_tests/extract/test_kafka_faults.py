"""Kafka: readers that are killed, brokers that go away, connections that break, users refused."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from etl_ml.extract import SourceError, kafka_client
from etl_ml.extract import kafka as kafka_module
from etl_ml.extract.kafka import open_kafka, pending
from etl_ml.lake import Lake
from etl_ml.spec import Pipeline
from etl_ml_tests.extract.collections import grown
from etl_ml_tests.extract.streams import ids, message, pipeline_over
from etl_ml_tests.extract.test_incremental import RUN
from etl_ml_tests.servers.kafka import Kafka
from etl_ml_tests.servers.kafka_proxy import KafkaProxy
from etl_ml_tests.servers.process import free_ports

BASE = Path()
FOREVER = """
import json, sys
from pathlib import Path
from etl_ml.extract import extract_new
from etl_ml.lake import Contents, open_lake
from etl_ml.spec import parse

pipeline = parse(json.loads(sys.argv[1]), file="defs.yaml")
while True:
    grow = lambda head: extract_new(pipeline, head, base=Path())
    open_lake(sys.argv[2]).write("loans", "raw_data", Contents(grow=grow))
"""


def written(pipeline: Pipeline) -> str:
    """A pipeline for another process."""
    given = pipeline.model_dump(mode="json", exclude_unset=True)
    del given["training"]
    return json.dumps(given)


def drained(lake: Lake, pipeline: Pipeline) -> list[int]:
    """Everything that is in the topics, once no run finds any more."""
    while True:
        before = grown(lake, pipeline, BASE).manifest.table
        if grown(lake, pipeline, BASE).manifest.table == before:
            return ids(lake, pipeline)


@pytest.mark.parametrize("place", ["batch:1", "before:1", "commit:1"])
def test_a_reader_that_is_killed_anywhere_costs_no_message_and_doubles_none(
    kafka: Kafka, lake: Lake, place: str
) -> None:
    topic = kafka.topic(2)
    pipeline = pipeline_over(kafka, topic)
    command = [sys.executable, "-c", RUN, written(pipeline), lake.url]
    for start in (0, 400):  # a first run, and one that follows
        kafka.send(topic, map(message, range(start, start + 200)))
        kafka.send(topic, map(message, range(start + 200, start + 400)), partition=1)
        run = subprocess.run(
            [*command, place], capture_output=True, text=True, timeout=120, check=False
        )
        assert run.returncode == -signal.SIGKILL, run.stderr
        subprocess.run([*command, "nowhere:0"], timeout=120, check=True)
        assert ids(lake, pipeline) == list(range(start + 400))


def test_readers_that_are_killed_at_random_while_messages_come(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic(3)
    pipeline = pipeline_over(kafka, topic, source={"max_rows": 500})
    stop, sent = threading.Event(), [0]

    def produce() -> None:
        while not stop.is_set():
            numbers = range(sent[0], sent[0] + 50)
            kafka.send(topic, map(message, numbers), partition=random.randrange(3))
            sent[0] += 50
            time.sleep(0.02)

    producer = threading.Thread(target=produce)
    producer.start()
    rng = random.Random(7)
    try:
        for _ in range(3):
            before = len(lake.versions("loans", "raw_data"))
            # Two at once, which is one too many.
            readers = [
                subprocess.Popen(
                    [sys.executable, "-c", FOREVER, written(pipeline), lake.url],
                    stderr=subprocess.PIPE,
                )
                for _ in range(2)
            ]
            while len(lake.versions("loans", "raw_data")) < before + 2:
                for reader in readers:
                    assert reader.poll() is None, reader.stderr and reader.stderr.read().decode()
                time.sleep(0.05)
            time.sleep(rng.uniform(0, 0.7))
            for reader in readers:
                os.kill(reader.pid, signal.SIGKILL)
                assert reader.wait() == -signal.SIGKILL
    finally:
        stop.set()
        producer.join()
    assert drained(lake, pipeline) == list(range(sent[0]))


def test_a_broker_that_restarts_costs_no_message(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic(2)
    for start in range(0, 20_000, 5000):
        numbers = range(start, start + 5000)
        kafka.send(topic, map(message, numbers), partition=start // 5000 % 2)
    pipeline = pipeline_over(kafka, topic, source={"max_rows": 2000})
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(8):
                grown(lake, pipeline, BASE)
        except BaseException as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        kafka.stop()
        time.sleep(0.5)
        kafka.start()
        time.sleep(0.5)
    reader.join()
    assert not errors
    assert drained(lake, pipeline) == list(range(20_000))


def test_connections_that_break_again_and_again_lose_and_double_nothing(
    kafka: Kafka, lake: Lake
) -> None:
    topic = kafka.topic(4)
    for part in range(4):
        kafka.send(topic, map(message, range(part * 5000, part * 5000 + 5000)), partition=part)
    proxy = KafkaProxy(kafka.port, cuts=8)
    pipeline = pipeline_over(kafka, topic, source={"bootstrap_servers": proxy.servers})
    try:
        assert grown(lake, pipeline, BASE).table.rows == 20_000
    finally:
        proxy.close()
    assert proxy.cuts == 0
    assert ids(lake, pipeline) == list(range(20_000))


def test_a_broker_that_stays_away_ends_the_run_and_nothing_is_written(
    kafka: Kafka, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_module, "_PATIENCE", 2.0)
    topic = kafka.topic()
    kafka.send(topic, map(message, range(10)))
    pipeline = pipeline_over(kafka, topic)
    source: Any = pipeline.source
    reader = open_kafka(source, pipeline.contract, base=BASE, state=None)
    kafka.stop()
    with pytest.raises(SourceError, match="no broker answers"):
        list(reader)
    reader.close()
    assert lake.versions("loans", "raw_data") == []


def refusal(pipeline: Pipeline) -> SourceError:
    source: Any = pipeline.source
    with pytest.raises(SourceError) as caught:
        pending(source, None, base=BASE)
    assert caught.value.fix
    assert "hidden-secret" not in str(caught.value)
    return caught.value


def test_what_is_wrong_with_the_address_is_told(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_client, "_CONNECT_SECONDS", 1.0)
    topic = kafka.topic()
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    found = refusal(pipeline_over(kafka, topic, source={"bootstrap_servers": nobody}))
    assert "no broker answers" in found.what
    assert found.where == "source.bootstrap_servers"
    found = refusal(pipeline_over(kafka, topic, source={"bootstrap_servers": "no-host.invalid"}))
    assert "no such host" in found.what
    found = refusal(pipeline_over(kafka, topic + "x"))
    assert "no topic" in found.what
    assert found.close == repr(topic)
    assert topic + "x" not in kafka.admin().list_topics(timeout=5).topics  # asking made none


def test_a_missing_extra_says_what_to_install(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    found = refusal(pipeline_over(kafka, "a"))
    assert found.fix == "pip install 'etl_ml[kafka]'"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key of 127.0.0.1, signed by itself, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "broker.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secured(kafka: Kafka, certificate: Path) -> Iterator[KafkaProxy]:
    proxy = KafkaProxy(kafka.port, users={"lake": "the-password"}, certificate=certificate)
    yield proxy
    proxy.close()


def test_messages_come_over_tls_from_who_knows_the_password(
    kafka: Kafka, lake: Lake, secured: KafkaProxy, certificate: Path
) -> None:
    topic = kafka.topic()
    kafka.send(topic, map(message, range(10)))
    user = {"protocol": "sasl_ssl", "user": "lake", "password": "the-password"}
    text = certificate.read_text()
    public = text[text.index("-----BEGIN CERTIFICATE") :]
    for ca in (str(certificate), public):
        security = {**user, "ca": ca}
        pipeline = pipeline_over(
            kafka, topic, source={"bootstrap_servers": secured.servers, "security": security}
        )
        grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(10))
    assert "the-password" not in repr(pipeline) + json.dumps(lake.table("loans", "raw_data").cursor)


def test_a_wrong_password_and_a_certificate_that_is_not_trusted_are_told_at_once(
    kafka: Kafka, secured: KafkaProxy, certificate: Path
) -> None:
    topic = kafka.topic()
    user = {"protocol": "SASL_SSL", "user": "lake", "password": "hidden-secret"}

    def refused(**security: Any) -> SourceError:
        source = {"bootstrap_servers": secured.servers, "security": {**user, **security}}
        return refusal(pipeline_over(kafka, topic, source=source))

    began = time.monotonic()
    found = refused(ca=str(certificate))
    assert "user or certificate is refused" in found.what
    assert found.where == "source.security"
    found = refused()
    assert "encrypted connection cannot be made" in found.what
    assert time.monotonic() - began < kafka_client._CONNECT_SECONDS
    assert "there is no such file" in refused(ca="nowhere.pem").what
    found = refused(certificate="nowhere.pem", key="hidden-secret-key.pem")
    assert "nowhere.pem" in str(found)
    found = refused(ca=str(certificate), certificate=str(certificate), key="hidden-secret.pem")
    assert found.where == "source.security.key"
    found = refused(options={"ssl.cipher.suites": "no-such-cipher"})
    assert found.fix


def test_an_unknown_setting_of_the_client_is_told_without_its_value(kafka: Kafka) -> None:
    security = {"protocol": "SSL", "options": {"ssl.nonsense": "hidden-secret"}}
    found = refusal(pipeline_over(kafka, "a", source={"security": security}))
    assert "ssl.nonsense" in str(found)
