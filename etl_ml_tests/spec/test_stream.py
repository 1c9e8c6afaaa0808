"""What can be said of a stream, and what is refused at load."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from etl_ml.spec import InvalidPipeline
from etl_ml.spec.source import KafkaSource, KinesisSource
from etl_ml_tests.conftest import make_pipeline

KAFKA = {"type": "kafka", "bootstrap_servers": "a:9092, b:9093", "topics": "orders"}
KINESIS = {"type": "kinesis", "stream": "orders"}
USER = {"user": "lake", "password": "hidden-secret"}


def test_one_is_a_list_and_nothing_secret_is_shown() -> None:
    security = {"protocol": "sasl_ssl", "mechanism": "scram-sha-512", **USER}
    registry = {"url": "https://registry:8081", **USER}
    more = {"security": security, "schema_registry": registry, "format": "avro"}
    source = make_pipeline(source={**KAFKA, **more}).source
    assert isinstance(source, KafkaSource)
    assert source.bootstrap_servers == ("a:9092", "b:9093")
    assert source.topics == ("orders",)
    assert source.address == "kafka://a:9092/orders"
    assert source.security is not None
    assert (source.security.protocol, source.security.mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert "hidden-secret" not in repr(source)


def test_the_name_of_an_arn_is_shown() -> None:
    arn = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders"
    source = KinesisSource.model_validate({**KINESIS, "stream": arn})
    assert source.address == "kinesis://orders"


@pytest.mark.parametrize(
    ("start", "moment"),
    [
        ("earliest", None),
        ("latest", None),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T13:00:00+01:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (date(2026, 1, 31), datetime(2026, 1, 31, tzinfo=UTC)),
    ],
)
def test_a_start_is_an_end_or_a_moment_in_utc(start: Any, moment: datetime | None) -> None:
    assert KafkaSource.model_validate({**KAFKA, "start": start}).start_at == moment


@pytest.mark.parametrize("source", [KAFKA, KINESIS], ids=["kafka", "kinesis"])
def test_a_stream_is_incremental_by_nature_and_known_by_its_places(source: Any) -> None:
    pipeline = make_pipeline(source=source)
    assert pipeline.source.incremental is not None
    assert pipeline.row_key() == type(pipeline.source).identity
    with pytest.raises(InvalidPipeline, match="always read incrementally"):
        make_pipeline(source={**source, "incremental": {}})
    with pytest.raises(InvalidPipeline, match="a stream has no end"):
        make_pipeline(predictions={"input": source})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"start": "erliest"}, "earliest, latest, or a moment"),
        ({"topics": []}, "topics"),
        ({"topics": ["a", "a"]}, "names a topic twice"),
        ({"topics": ["orders.*/x"]}, "topics"),
        ({"topic": "orders"}, "'topics'"),
        ({"bootstrap_servers": "PLAINTEXT://a:9092"}, "host:port"),
        ({"bootstrap_servers": "lake:hidden-secret@a:9092"}, "host:port"),
        ({"format": "avro"}, "needs schema_registry"),
        ({"format": "protobuf"}, "json, avro"),
        ({"max_rows": 0}, "greater than or equal to 1"),
        ({"max_seconds": 0}, "greater than 0"),
        ({"schema_registry": {"url": "http://r", "user": "u"}}, "give both or none"),
        ({"schema_registry": {"url": "http://u:hidden-secret@r"}}, "schema_registry.url"),
        ({"security": {"protocol": "SASL_SSL"}}, "PLAIN needs user and password"),
        ({"security": {"protocol": "SSL", **USER}}, "asks for none"),
        ({"security": {"protocol": "SSL", "certificate": "x"}}, "goes with key"),
        ({"security": {"protocol": "SSL", "options": {"enable.auto.commit": "1"}}}, "options"),
    ],
)
def test_what_cannot_be_is_refused_at_load(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidPipeline) as caught:
        make_pipeline(source={**KAFKA, **given})
    assert told in str(caught.value)
    assert "hidden-secret" not in str(caught.value)


def test_a_stream_has_the_columns_of_the_contract_alone() -> None:
    with pytest.raises(InvalidPipeline, match="no columns but the contract's"):
        make_pipeline(source=KAFKA, contract={"unknown_columns": "keep"})
