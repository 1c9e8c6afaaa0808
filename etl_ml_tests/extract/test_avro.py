"""Avro with a schema registry: each record with the schema that it was written with."""

from __future__ import annotations

import json
import random
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl_ml.extract import SourceError
from etl_ml.extract.avro import AvroValues
from etl_ml.lake import Lake
from etl_ml.spec import Pipeline
from etl_ml.spec.stream import KafkaSource
from etl_ml.validate import validate
from etl_ml_tests.extract.collections import grown, raw
from etl_ml_tests.extract.streams import pipeline_over
from etl_ml_tests.servers.http import Http
from etl_ml_tests.servers.kafka import Kafka
from etl_ml_tests.servers.process import free_ports
from etl_ml_tests.servers.schema_registry import SchemaRegistry

BASE = Path()
LOAN = {
    "type": "record",
    "name": "Loan",
    "namespace": "bank",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "income", "type": ["null", "double"], "default": None},
        {"name": "country", "type": {"type": "enum", "name": "Country", "symbols": ["DE", "FR"]}},
        {"name": "defaulted", "type": "int"},
    ],
}
DAY = date(2026, 1, 31)
COLUMNS = {
    "id": {"type": "integer"},
    "income": {"type": "float"},
    "country": {"type": "category"},
    "defaulted": {"type": "integer"},
}


@pytest.fixture
def registry(http: Http) -> SchemaRegistry:
    return SchemaRegistry(http)


def over(kafka: Kafka, url: str, topic: str, **sections: Any) -> Pipeline:
    source = {"format": "avro", "schema_registry": {"url": url}, **sections.pop("source", {})}
    contract = {"columns": COLUMNS, **sections.pop("contract", {})}
    return pipeline_over(kafka, topic, source=source, contract=contract, **sections)


def values_of(url: str, **registry: Any) -> AvroValues:
    source = {
        "type": "kafka",
        "bootstrap_servers": "h:1",
        "topics": "t",
        "format": "avro",
        "schema_registry": {"url": url, **registry},
    }
    return AvroValues(KafkaSource.model_validate(source))


def test_records_of_several_schemas_are_rows_as_they_were_sent(
    kafka: Kafka, lake: Lake, registry: SchemaRegistry
) -> None:
    topic = kafka.topic()
    first = registry.register(LOAN)
    fields = [*LOAN["fields"][:1], *LOAN["fields"][2:]]  # a later schema, without the income
    second = registry.register({**LOAN, "fields": fields})
    sent: list[dict[str, Any]] = [
        {"id": 2**62, "income": 0.1, "country": "DE", "defaulted": 1},
        {"id": -1, "income": None, "country": "FR", "defaulted": 0},
    ]
    later = {"id": 3, "country": "FR", "defaulted": 1}
    kafka.send(
        topic, [*(registry.record(first, row) for row in sent), registry.record(second, later)]
    )
    pipeline = over(kafka, registry.url, topic)
    grown(lake, pipeline, BASE)
    valid = validate(raw(lake, pipeline).lazy(), pipeline).valid.collect().sort("id")
    wanted = [sent[1], later | {"income": None}, sent[0]]
    assert valid.select(list(COLUMNS)).to_dicts() == [
        {name: row[name] for name in COLUMNS} for row in wanted
    ]
    assert registry.asked == 2  # once for each schema


def test_every_type_of_avro_is_text_that_the_contract_can_cast(
    kafka: Kafka, lake: Lake, registry: SchemaRegistry
) -> None:
    kinds: dict[str, tuple[Any, Any, str, Any]] = {
        "price": (
            {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 10},
            Decimal("12345678901234567890.1234567890"),
            "string",
            "12345678901234567890.1234567890",
        ),
        "at": (
            {"type": "long", "logicalType": "timestamp-micros"},
            datetime(2026, 1, 31, 12, 0, 0, 123456, UTC),
            "datetime",
            datetime(2026, 1, 31, 12, 0, 0, 123456, UTC),
        ),
        "day": (
            {"type": "int", "logicalType": "date"},
            date(2026, 1, 31),
            "date",
            date(2026, 1, 31),
        ),
        "ratio": ("float", 0.5, "float", 0.5),
        "nothing": ("double", float("nan"), "float", None),
        "yes": ("boolean", True, "boolean", True),
        "raw": ("bytes", b"\x00\xff", "string", "AP8="),
        "list": ({"type": "array", "items": "int"}, [1, 2], "string", "[1, 2]"),
    }
    fields = [{"name": name, "type": kind} for name, (kind, *_) in kinds.items()]
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "city", "type": "string"}]}
    fields += [{"name": "address", "type": inner}, {"name": "defaulted", "type": "int"}]
    number = registry.register({"type": "record", "name": "All", "fields": fields})
    record = {name: value for name, (_, value, *_) in kinds.items()}
    topic = kafka.topic()
    sent = record | {"address": {"city": "Köln"}, "defaulted": 1}
    kafka.send(topic, [registry.record(number, sent)])
    columns = {name: {"type": kind} for name, (_, _, kind, _) in kinds.items()}
    columns |= {"address.city": {"type": "string"}, "defaulted": {"type": "integer"}}
    pipeline = over(kafka, registry.url, topic, contract={"columns": columns})
    grown(lake, pipeline, BASE)
    (row,) = validate(raw(lake, pipeline).lazy(), pipeline).valid.collect().to_dicts()
    for name, (_, _, _, wanted) in kinds.items():
        assert row[name] == wanted, name
    assert row["address.city"] == "Köln"


def test_a_schema_that_refers_to_others_is_read_with_them(http: Http) -> None:
    registry = SchemaRegistry(http)
    named: dict[str, Any] = {}
    from fastavro import parse_schema

    city = {"type": "record", "name": "bank.City", "fields": [{"name": "name", "type": "string"}]}
    home = {
        "type": "record",
        "name": "bank.Home",
        "fields": [{"name": "city", "type": "bank.City"}],
    }
    loan = {
        "type": "record",
        "name": "bank.Loan",
        "fields": [{"name": "home", "type": "bank.Home"}],
    }
    registry.register(city, subject="city")
    parse_schema(city, named_schemas=named)
    to_city = [{"name": "bank.City", "subject": "city", "version": 1}]
    registry.register(home, subject="home", references=to_city, named=named)
    parse_schema(home, named_schemas=named)
    to_home = [{"name": "bank.Home", "subject": "home", "version": 1}]
    number = registry.register(loan, references=to_home, named=named)
    record = {"home": {"city": {"name": "Bonn"}}}
    assert values_of(registry.url).again(registry.record(number, record)) == record


def test_what_is_no_record_is_quarantined_with_its_bytes(
    kafka: Kafka, lake: Lake, registry: SchemaRegistry
) -> None:
    number, topic = registry.register(LOAN), kafka.topic()
    good = registry.record(number, {"id": 1, "income": 2.0, "country": "DE", "defaulted": 1})
    poison = [
        good[:-1],  # cut short
        good + b"\x00",  # too long
        b'{"id": 1}',
        b"\x00",
        b"",
        struct.pack(">bI", 0, 999) + good[5:],  # of a schema that is not known
        struct.pack(">bI", 0, number) + b"\xff" * 40,
        good[:15] + b"\x7f" + good[16:],  # no symbol of the enumeration
    ]
    kafka.send(topic, [part for value in poison for part in (good, value)])
    pipeline = over(kafka, registry.url, topic, validation={"max_quarantined": 1.0, "min_rows": 1})
    grown(lake, pipeline, BASE)
    result = validate(raw(lake, pipeline).lazy(), pipeline)
    assert result.report["valid_rows"] == len(poison)
    bad = result.quarantined.collect().sort("_offset")
    assert bad["_offset"].to_list() == list(range(1, 2 * len(poison), 2))
    assert all("(message): avro" in reasons for reasons in bad["_reasons"].to_list())
    from etl_ml.extract.messages import as_text

    assert [json.loads(text) for text in bad["_etl_ml_original"]] == [as_text(v) for v in poison]


def test_damaged_records_never_end_a_read(http: Http) -> None:
    registry = SchemaRegistry(http)
    number = registry.register(LOAN)
    values, rng = values_of(registry.url), random.Random(1)
    good = registry.record(number, {"id": 123456, "income": 2.5, "country": "FR", "defaulted": 1})
    outcomes = set()
    for _ in range(3000):
        damaged = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(5, len(damaged))] = rng.randrange(256)
        try:
            outcomes.add(type(values.again(bytes(damaged[: rng.randint(5, len(good))]))))
        except ValueError:
            outcomes.add(ValueError)
    assert outcomes == {dict, ValueError}


def test_a_registry_that_does_not_answer_ends_the_run_and_nothing_is_written(
    kafka: Kafka, lake: Lake, registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = kafka.topic()
    number = registry.register(LOAN)
    kafka.send(topic, [registry.record(number, {"id": 1, "country": "DE", "defaulted": 1})])
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(SourceError, match="does not give a schema") as caught:
        grown(lake, over(kafka, nobody, topic), BASE)
    assert caught.value.where == "source.schema_registry"
    assert lake.versions("loans", "raw_data") == []


def test_the_registry_is_asked_with_user_and_password(http: Http) -> None:
    registry = SchemaRegistry(http, user="lake", password="the-password")
    number = registry.register(LOAN)
    record = {"id": 1, "income": None, "country": "DE", "defaulted": 0}
    value = registry.record(number, record)
    assert values_of(http.url, user="lake", password="the-password").again(value) == record
    with pytest.raises(SourceError) as caught:
        values_of(http.url, user="lake", password="hidden-secret").again(value)
    assert "user and password" in str(caught.value)
    assert "hidden-secret" not in str(caught.value)


def test_a_schema_of_another_kind_is_not_known(http: Http) -> None:
    registry = SchemaRegistry(http)
    from etl_ml_tests.servers.http import as_json

    http.routes["/schemas/ids/9"] = lambda request: as_json(
        {"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}
    )
    with pytest.raises(ValueError, match="not known"):
        values_of(registry.url).again(struct.pack(">bI", 0, 9) + b"\x00")


def test_rows_are_the_same_however_they_are_batched(registry: SchemaRegistry) -> None:
    number = registry.register(LOAN)
    values = values_of(registry.url)
    rows = [{"id": n, "income": n / 7, "country": "DE", "defaulted": n % 2} for n in range(100)]
    read = [values.again(registry.record(number, row)) for row in rows]
    assert pl.DataFrame(read).equals(pl.DataFrame(rows))
