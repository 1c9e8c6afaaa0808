"""Kafka: each message exactly once, whatever happens to it meanwhile."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Consumer, TopicPartition

from etl_ml.extract import SourceError
from etl_ml.extract.kafka import open_kafka, pending
from etl_ml.lake import Lake
from etl_ml.spec import Pipeline
from etl_ml.validate import validate
from etl_ml_tests.extract.collections import grown, raw
from etl_ml_tests.extract.streams import cursor, ids, message, pipeline_over
from etl_ml_tests.servers.kafka import Kafka

BASE = Path()


def left(lake: Lake, pipeline: Pipeline) -> int:
    """What the sensor would count."""
    return pending(pipeline.source, cursor(lake, pipeline), base=BASE)  # type: ignore[arg-type]


def test_each_run_reads_what_is_new_and_its_version_keeps_what_was(
    kafka: Kafka, lake: Lake
) -> None:
    topic, other = kafka.topic(2), kafka.topic()
    pipeline = pipeline_over(kafka, topic, other)
    kafka.send(topic, map(message, range(50)))
    kafka.send(topic, map(message, range(50, 80)), partition=1)
    kafka.send(other, map(message, range(80, 90)))
    first = grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(90))
    nothing = grown(lake, pipeline, BASE)
    assert nothing.manifest.table == first.manifest.table
    kafka.send(topic, map(message, range(90, 95)), partition=1)
    second = grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(95))
    assert (first.table.rows, second.table.rows) == (90, 95)
    assert cursor(lake, pipeline)["position"] == {
        f"{topic}/0": 50,
        f"{topic}/1": 35,
        f"{other}/0": 10,
    }


def test_rows_are_what_was_sent_with_its_place_time_and_key(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic(2)
    sent = [
        {"id": 2**63 - 1, "age": None, "income": 0.1, "country": "Österreich 🧀", "active": True},
        {"id": -1, "income": 1e-7, "country": "", "active": False, "defaulted": 1},
        {},
    ]
    now = int(time.time() * 1000)
    kafka.send(
        topic,
        [json.dumps(row) for row in sent],
        partition=1,
        keys=["a", "ключ", b"\xff\x00"],
        timestamps=[now, now + 1, now + 2],
    )
    pipeline = pipeline_over(kafka, topic)
    grown(lake, pipeline, BASE)
    rows = raw(lake, pipeline).sort("_offset").to_dicts()
    for number, (row, was) in enumerate(zip(rows, sent, strict=True)):
        assert (row["_topic"], row["_partition"], row["_offset"]) == (topic, 1, number)
        moment = datetime.fromtimestamp((now + number) / 1000, UTC)
        assert row["_timestamp"] == moment
        for name in ("id", "age", "income", "country", "active", "defaulted"):
            told, value = was.get(name), row[name]
            if told is None or isinstance(told, bool):
                assert value == (None if told is None else str(told).lower())
            else:
                assert type(told)(value) == told
    assert [row["_key"] for row in rows] == ["a", "ключ", "data:;base64,/wA="]


def test_poison_is_quarantined_with_its_place_and_harms_no_other(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic()
    poison: dict[bytes, str] = {
        b'{"id": 1, "age": ': "(message): json",
        b"\x00\x01\x02\xff\xfe\xfd\xfc": "(message): json",
        b"[1, 2]": "(message): json",
        b"null": "(message): json",
        b"": "(message): json",
        b'{"id": NaN}': "(message): json",
        b'{"id": 1} {"id": 2}': "(message): json",
        b'{"id": 1, "age": 3.7}': "age: type",
        b'{"id": 1, "income": "much"}': "income: type",
        b'{"id": 1, "defaulted": 1, "colour": "red"}': "colour: unknown_columns",
    }
    for number, value in enumerate(poison):
        kafka.send(topic, [message(10 + number), value])
    pipeline = pipeline_over(kafka, topic, validation={"max_quarantined": 1.0, "min_rows": 1})
    grown(lake, pipeline, BASE)
    frame = raw(lake, pipeline)
    assert frame.height == 2 * len(poison)
    result = validate(frame.lazy(), pipeline)
    assert result.report["valid_rows"] == len(poison)
    bad = result.quarantined.collect().sort("_offset")
    assert bad["_offset"].to_list() == list(range(1, 2 * len(poison), 2))
    assert bad["_topic"].unique().to_list() == [topic]
    for row, (value, reason) in zip(bad.to_dicts(), poison.items(), strict=True):
        assert reason in row["_reasons"], (value, row["_reasons"])
        if reason == "(message): json" and value[:1] != b"\0":
            assert json.loads(row["_etl_ml_original"]) == value.decode()
    assert json.loads(bad["_etl_ml_original"][1]) == "data:;base64,AAEC//79/A=="


def test_without_a_key_a_message_that_was_sent_twice_is_two_and_with_one_the_later_counts(
    kafka: Kafka, lake: Lake, tmp_path: Path
) -> None:
    topic = kafka.topic()
    kafka.send(topic, [message(1, age=30), message(2), message(1, age=30), message(1, age=31)])
    plain = pipeline_over(kafka, topic)
    grown(lake, plain, BASE)
    report = validate(raw(lake, plain).lazy(), plain).report
    assert (report["valid_rows"], report["superseded_rows"]) == (4, 0)

    keyed = pipeline_over(kafka, topic, contract={"primary_key": ["id"]})
    from etl_ml.lake import open_lake

    other = open_lake(tmp_path / "keyed")
    grown(other, keyed, BASE)
    result = validate(raw(other, keyed).lazy(), keyed)
    assert (result.report["valid_rows"], result.report["superseded_rows"]) == (2, 2)
    assert result.valid.collect().sort("id")["age"].to_list() == [31, 22]
    # A later message of the key that breaks the contract takes the older ones with it.
    kafka.send(topic, [message(1, age="old")])
    grown(other, keyed, BASE)
    report = validate(raw(other, keyed).lazy(), keyed).report
    assert [report[f"{kind}_rows"] for kind in ("valid", "quarantined", "superseded")] == [1, 1, 3]


def test_a_later_place_counts_whatever_a_senders_clock_says_and_between_partitions_time_does(
    kafka: Kafka, lake: Lake
) -> None:
    topic, now = kafka.topic(2), int(time.time() * 1000)
    pipeline = pipeline_over(kafka, topic, contract={"primary_key": ["id"]})
    kafka.send(topic, [message(1, age=50), message(1, age=51)], timestamps=[now, now - 60_000])
    kafka.send(topic, [message(2, age=60)], timestamps=[now + 1000])
    kafka.send(topic, [message(2, age=61)], timestamps=[now + 2000], partition=1)
    kafka.send(topic, [message(3, age=70)], timestamps=[now + 5000], partition=1)
    kafka.send(topic, [message(3, age=71)], timestamps=[now + 4000])
    grown(lake, pipeline, BASE)
    valid = validate(raw(lake, pipeline).lazy(), pipeline).valid.collect().sort("id")
    assert valid["age"].to_list() == [51, 61, 70]


def test_a_tombstone_takes_back_what_its_key_said(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic()
    columns = {"_key": {"type": "string"}, "id": {"type": "integer", "nullable": False}}
    contract = {
        "columns": columns | {"defaulted": {"type": "integer"}, "age": {"type": "integer"}},
        "unknown_columns": "drop",
        "primary_key": ["_key"],
    }
    pipeline = pipeline_over(kafka, topic, contract=contract)
    kafka.send(topic, [message(1), message(2), None, message(3)], keys=["a", "b", "a", "c"])
    grown(lake, pipeline, BASE)
    result = validate(raw(lake, pipeline).lazy(), pipeline)
    assert result.valid.collect()["_key"].sort().to_list() == ["b", "c"]
    assert (result.report["superseded_rows"], result.report["quarantined_rows"]) == (2, 0)
    kafka.send(topic, [message(4)], keys=["a"])
    grown(lake, pipeline, BASE)
    valid = validate(raw(lake, pipeline).lazy(), pipeline).valid.collect().sort("_key")
    assert valid["id"].to_list() == [4, 2, 3]


def test_a_tombstone_without_a_key_to_take_back_is_only_counted(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic()
    kafka.send(topic, [message(1), None, message(2)], keys=["a", "a", "b"])
    pipeline = pipeline_over(kafka, topic)
    grown(lake, pipeline, BASE)
    report = validate(raw(lake, pipeline).lazy(), pipeline).report
    assert [report[f"{kind}_rows"] for kind in ("valid", "quarantined", "superseded")] == [2, 0, 1]


def test_offsets_that_expired_are_named_and_reading_goes_on_behind_them(
    kafka: Kafka, lake: Lake
) -> None:
    topic = kafka.topic()
    pipeline = pipeline_over(kafka, topic)
    kafka.send(topic, map(message, range(10)))
    grown(lake, pipeline, BASE)
    kafka.send(topic, map(message, range(10, 30)))
    kafka.delete_records(topic, 25)
    assert left(lake, pipeline) == 5
    told: list[str] = []
    from etl_ml.extract import extract_new
    from etl_ml.lake import Contents

    lake.write(
        "loans",
        "raw_data",
        Contents(grow=lambda head: extract_new(pipeline, head, base=BASE, log=told.append)),
    )
    assert ids(lake, pipeline) == [*range(10), *range(25, 30)]
    gap = f"{topic}/0: offsets 10 to 24"
    assert cursor(lake, pipeline)["gaps"] == [gap]
    assert [line for line in told if gap in line]
    kafka.send(topic, [message(30)])
    grown(lake, pipeline, BASE)
    assert cursor(lake, pipeline)["gaps"] == []


def test_offsets_that_expire_while_they_are_read_are_named(kafka: Kafka) -> None:
    topic = kafka.topic()
    pipeline = pipeline_over(kafka, topic)
    kafka.send(topic, map(message, range(30)))
    reader = open_kafka(pipeline.source, pipeline.contract, base=BASE, state=None)  # type: ignore[arg-type]
    kafka.delete_records(topic, 20)
    found = [offset for batch in reader for offset in batch["_offset"].to_pylist()]
    reader.close()
    assert found == list(range(20, 30))
    assert reader.cursor()["gaps"] == [f"{topic}/0: offsets 0 to 19"]
    assert reader.cursor()["position"] == {f"{topic}/0": 30}


def test_offsets_that_compaction_left_empty_are_passed_and_counted(
    kafka: Kafka, lake: Lake
) -> None:
    topic = kafka.topic(
        cleanup_policy="compact",
        segment_ms="100",
        segment_bytes="1000",
        min_cleanable_dirty_ratio="0.01",
    )
    for start in range(0, 200, 50):
        kafka.send(
            topic, map(message, range(start, start + 50)), keys=[str(i % 5) for i in range(50)]
        )
        time.sleep(0.5)
    end = time.monotonic() + 60
    consumer = Consumer({"bootstrap.servers": kafka.servers, "group.id": "look", "log_level": 0})
    while True:  # until the broker has compacted
        consumer.assign([TopicPartition(topic, 0, 0)])
        there = [m.offset() for m in consumer.consume(200, timeout=2) if m.error() is None]
        if 0 < len(there) < 200 or time.monotonic() > end:
            break
    consumer.close()
    pipeline = pipeline_over(kafka, topic)
    grown(lake, pipeline, BASE)
    found = raw(lake, pipeline)["_offset"].sort().to_list()
    assert set(found) <= set(there)
    assert found[-1] == 199
    assert cursor(lake, pipeline)["skipped"] == 200 - len(found) > 0
    assert left(lake, pipeline) == 0


def test_a_partition_that_is_added_is_read_from_its_beginning(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic()
    pipeline = pipeline_over(kafka, topic, source={"start": "latest"})
    kafka.send(topic, map(message, range(5)))
    assert grown(lake, pipeline, BASE).table.rows == 0
    kafka.add_partitions(topic, 3)
    kafka.send(topic, map(message, range(5, 8)), partition=2)
    kafka.send(topic, map(message, range(8, 10)))
    assert left(lake, pipeline) == 5
    grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(5, 10))


def test_the_first_run_begins_where_start_says(kafka: Kafka, tmp_path: Path) -> None:
    from etl_ml.lake import open_lake

    topic, now = kafka.topic(), int(time.time() * 1000)
    kafka.send(topic, map(message, range(10)), timestamps=[now + 1000 * i for i in range(10)])
    moment = datetime.fromtimestamp((now + 3500) / 1000, UTC).isoformat()
    for start, expected in (("earliest", range(12)), (moment, range(4, 12)), ("latest", (10, 11))):
        lake = open_lake(tmp_path / start[:6])
        pipeline = pipeline_over(kafka, topic, source={"start": start})
        if start == "latest":
            kafka.send(topic, [])
        grown(lake, pipeline, BASE)
        if start == "latest":
            kafka.send(topic, map(message, (10, 11)), timestamps=[now + 20_000] * 2)
        grown(lake, pipeline, BASE)
        if start != "latest":
            assert ids(lake, pipeline) == [i for i in expected if i < 10]
        else:
            assert ids(lake, pipeline) == list(expected)


def test_a_topic_without_a_message_is_told_and_nothing_is_written(kafka: Kafka, lake: Lake) -> None:
    pipeline = pipeline_over(kafka, kafka.topic())
    with pytest.raises(SourceError, match="there is no message yet"):
        grown(lake, pipeline, BASE)
    assert lake.versions("loans", "raw_data") == []


def test_a_run_is_bounded_and_the_next_goes_on(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic(3)
    for part in range(3):
        kafka.send(topic, map(message, range(part * 100, part * 100 + 100)), partition=part)
    pipeline = pipeline_over(kafka, topic, source={"max_rows": 120})
    source: Any = pipeline.source
    told: list[str] = []
    reader = open_kafka(source, pipeline.contract, base=BASE, state=None, log=told.append)
    assert sum(batch.num_rows for batch in reader) == 120
    reader.close()
    assert told == ["Kafka: 180 messages are left for the next run"]
    rows = [grown(lake, pipeline, BASE).table.rows for _ in range(4)]
    assert rows == [120, 240, 300, 300]
    assert ids(lake, pipeline) == list(range(300))


def test_a_refresh_reads_everything_again_in_one_commit(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic()
    pipeline = pipeline_over(kafka, topic, source={"max_rows": 10})
    kafka.send(topic, map(message, range(30)))
    grown(lake, pipeline, BASE)
    before = raw(lake, pipeline).sort("_offset")["_etl_ml_row"].to_list()
    assert grown(lake, pipeline, BASE, refresh=True).table.rows == 30
    assert ids(lake, pipeline) == list(range(30))
    assert raw(lake, pipeline).sort("_offset")["_etl_ml_row"].to_list()[:10] == before
    kafka.delete_records(topic, 5)
    assert grown(lake, pipeline, BASE, refresh=True).table.rows == 25
    assert cursor(lake, pipeline)["gaps"] == [f"{topic}/0: offsets 0 to 4"]
    kafka.delete_records(topic, 30)
    with pytest.raises(SourceError, match="no message"):
        grown(lake, pipeline, BASE, refresh=True)
    assert len(ids(lake, pipeline)) == 25


def test_a_refresh_of_latest_begins_where_it_once_began(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic()
    pipeline = pipeline_over(kafka, topic, source={"start": "latest"})
    kafka.send(topic, map(message, range(5)))
    grown(lake, pipeline, BASE)
    kafka.send(topic, map(message, range(5, 9)))
    grown(lake, pipeline, BASE)
    grown(lake, pipeline, BASE, refresh=True)
    assert ids(lake, pipeline) == [5, 6, 7, 8]
    kafka.delete_records(topic, 9)
    with pytest.raises(SourceError, match="no message"):
        grown(lake, pipeline, BASE, refresh=True)
    assert ids(lake, pipeline) == [5, 6, 7, 8]
    # Another source's rows are not kept, whether it has any of its own or not.
    other = pipeline_over(kafka, kafka.topic(), source={"start": "latest"})
    assert grown(lake, other, BASE, refresh=True).table.rows == 0


@pytest.mark.parametrize("messages", [3, 20])
def test_a_topic_that_was_made_anew_is_refused(
    kafka: Kafka, lake: Lake, messages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = kafka.topic()
    pipeline = pipeline_over(kafka, topic)
    if messages > 10:  # only its id tells: this broker gives none, others do
        from etl_ml.extract.kafka_client import KafkaClient

        made = iter("ab")
        monkeypatch.setattr(KafkaClient, "_topic_ids", lambda self: {topic: next(made, "b")})
    kafka.send(topic, map(message, range(10)))
    grown(lake, pipeline, BASE)
    kafka.delete_topic(topic)
    kafka.make_topic(topic, 1)
    kafka.send(topic, map(message, range(100, 100 + messages)))
    with pytest.raises(SourceError, match="does not fit") as caught:
        grown(lake, pipeline, BASE)
    assert "etl-ml refresh" in str(caught.value)
    assert len(ids(lake, pipeline)) == 10
    grown(lake, pipeline, BASE, refresh=True)
    assert ids(lake, pipeline) == list(range(100, 100 + messages))


def test_other_topics_and_another_cluster_are_refused(kafka: Kafka, lake: Lake) -> None:
    topic, other = kafka.topic(), kafka.topic()
    kafka.send(topic, [message(1)])
    kafka.send(other, [message(2)])
    pipeline = pipeline_over(kafka, topic)
    grown(lake, pipeline, BASE)
    with pytest.raises(SourceError, match="etl-ml refresh loans"):
        grown(lake, pipeline_over(kafka, topic, other), BASE)
    found = cursor(lake, pipeline)
    with pytest.raises(SourceError, match="does not fit") as caught:
        pending(pipeline.source, found | {"cluster": "another"}, base=BASE)  # type: ignore[arg-type]
    assert "another cluster" in str(caught.value)


def test_only_what_a_transaction_has_committed_is_read(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic()
    pipeline = pipeline_over(kafka, topic)
    kafka.send(topic, [message(0)])
    producer = kafka.producer(**{"transactional.id": topic})
    producer.init_transactions(20)
    producer.begin_transaction()
    for number in (100, 101):
        producer.produce(topic, message(number), partition=0)
    producer.flush(20)
    grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == [0]  # an open one holds back what is behind it
    producer.abort_transaction(20)
    producer.begin_transaction()
    for number in (1, 2):
        producer.produce(topic, message(number), partition=0)
    producer.commit_transaction(20)
    grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == [0, 1, 2]
    assert left(lake, pipeline) == 0  # the markers behind the last message are passed, too
    assert cursor(lake, pipeline)["skipped"] == 4  # two that were aborted, two markers


def test_offsets_without_a_message_are_passed_once(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic()
    pipeline = pipeline_over(kafka, topic)
    kafka.send(topic, [message(0)])
    grown(lake, pipeline, BASE)
    producer = kafka.producer(**{"transactional.id": topic})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, message(100), partition=0)
    producer.flush(20)
    producer.abort_transaction(20)
    assert left(lake, pipeline) == 2
    grown(lake, pipeline, BASE)
    assert left(lake, pipeline) == 0
    assert ids(lake, pipeline) == [0]


def test_messages_that_a_broker_sends_again_come_once(kafka: Kafka) -> None:
    topic = kafka.topic(2)
    pipeline = pipeline_over(kafka, topic)
    kafka.send(topic, map(message, range(6)))
    kafka.send(topic, map(message, range(6, 10)), partition=1)
    consumer = Consumer({"bootstrap.servers": kafka.servers, "group.id": "look", "log_level": 0})
    consumer.assign([TopicPartition(topic, part, 0) for part in range(2)])
    sent: list[Any] = []
    while len(sent) < 10:
        sent += consumer.consume(10, timeout=1)
    consumer.close()
    source: Any = pipeline.source
    reader = open_kafka(source, pipeline.contract, base=BASE, state=None)
    found: list[int] = []
    for again in (sent[:4], sent[2:7], sent, sent):
        batch = reader._batch(again)
        found += [] if batch is None else map(int, batch["id"].to_pylist())
    reader.close()
    assert sorted(found) == list(range(10))
    assert len(found) == 10
    assert reader.cursor()["position"] == {f"{topic}/0": 6, f"{topic}/1": 4}
    assert reader.cursor()["skipped"] == 0


def test_members_of_the_group_that_come_and_go_do_not_matter(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic(4)
    pipeline = pipeline_over(kafka, topic, source={"group": f"lake-{topic}", "max_rows": 100})
    stop = threading.Event()

    def member() -> None:
        while not stop.is_set():
            consumer = Consumer(
                {
                    "bootstrap.servers": kafka.servers,
                    "group.id": f"lake-{topic}",
                    "auto.offset.reset": "earliest",
                    "log_level": 0,
                }
            )
            consumer.subscribe([topic])
            consumer.consume(50, timeout=0.5)
            consumer.close()  # which commits what it has seen

    members = [threading.Thread(target=member) for _ in range(2)]
    for one in members:
        one.start()
    try:
        for start in range(0, 800, 200):
            for part in range(4):
                rows = range(start + part * 50, start + part * 50 + 50)
                kafka.send(topic, map(message, rows), partition=part)
            grown(lake, pipeline, BASE)
    finally:
        stop.set()
        for one in members:
            one.join()
    while left(lake, pipeline):
        grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(800))


def test_the_group_is_told_how_far_the_lake_is(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic(2)
    pipeline = pipeline_over(kafka, topic, source={"group": "watched"})
    kafka.send(topic, map(message, range(7)))
    kafka.send(topic, map(message, range(7, 10)), partition=1)
    grown(lake, pipeline, BASE)
    assert kafka.group_offsets("watched", topic, 2) == [7, 3]


def test_a_group_that_cannot_be_told_harms_no_run(
    kafka: Kafka, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from confluent_kafka import KafkaError, KafkaException

    from etl_ml.extract.kafka_client import KafkaClient

    def refuse(*_: Any) -> None:
        raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

    monkeypatch.setattr(KafkaClient, "commit", refuse)
    topic = kafka.topic()
    kafka.send(topic, [message(1)])
    pipeline = pipeline_over(kafka, topic, source={"group": "watched"})
    assert grown(lake, pipeline, BASE).table.rows == 1


def test_two_readers_at_once_append_each_message_once(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic(2)
    pipeline = pipeline_over(kafka, topic, source={"max_rows": 50})
    kafka.send(topic, map(message, range(250)))
    kafka.send(topic, map(message, range(250, 500)), partition=1)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(6):
                grown(lake, pipeline, BASE)
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for one in readers:
        one.start()
    for one in readers:
        one.join()
    assert not errors
    assert ids(lake, pipeline) == list(range(500))


def test_nothing_is_counted_by_reading(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic(2)
    kafka.send(topic, map(message, range(20)))
    pipeline = pipeline_over(kafka, topic)
    source: Any = pipeline.source
    assert pending(source, None, base=BASE) == 20
    grown(lake, pipeline, BASE)
    assert left(lake, pipeline) == 0
    kafka.send(topic, map(message, range(3)), partition=1)
    assert left(lake, pipeline) == 3


def test_a_column_of_the_message_is_one_of_the_contract_if_it_is_named(
    kafka: Kafka, lake: Lake
) -> None:
    topic = kafka.topic()
    kafka.send(topic, [message(1), message(2, _key="mine")], keys=["a", "b"])
    columns = {"id": {"type": "integer"}, "defaulted": {"type": "integer"}}
    own = {"_key": {"type": "string"}, "_offset": {"type": "integer"}}
    own |= {"_timestamp": {"type": "datetime"}, "_partition": {"type": "integer"}}
    pipeline = pipeline_over(
        kafka, topic, contract={"columns": columns | own, "unknown_columns": "drop"}
    )
    grown(lake, pipeline, BASE)
    valid = validate(raw(lake, pipeline).lazy(), pipeline).valid.collect().sort("_offset")
    assert valid["_key"].to_list() == ["a", "b"]
    assert valid.schema["_timestamp"] == pl.Datetime("us", "UTC")
    assert valid.columns == ["id", "defaulted", *own, "_etl_ml_row"]
