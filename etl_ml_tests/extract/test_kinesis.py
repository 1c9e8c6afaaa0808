"""Kinesis: each record exactly once, through resharding, throttling and expired iterators."""

from __future__ import annotations

import http.client as http_client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl_ml.extract import SourceError, aws
from etl_ml.extract.kinesis import Shards, pending
from etl_ml.lake import Lake
from etl_ml.lake.backoff import Backoff
from etl_ml.spec import Pipeline
from etl_ml.validate import validate
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import grown, raw
from etl_ml_tests.extract.streams import COLUMNS, cursor, ids, message
from etl_ml_tests.extract.test_incremental import RUN
from etl_ml_tests.servers.http import Answer, Http, Request, as_json
from etl_ml_tests.servers.kinesis import Kinesis

BASE = Path()


@pytest.fixture(autouse=True)
def _credentials(kinesis: Kinesis, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in kinesis.environment.items():
        monkeypatch.setenv(name, value)


def over(stream: str, **sections: Any) -> Pipeline:
    """A pipeline over a stream; `source` and `contract` sections are merged into."""
    source = {"type": "kinesis", "stream": stream, **sections.pop("source", {})}
    contract = {"columns": COLUMNS, **sections.pop("contract", {})}
    return make_pipeline(source=source, contract=contract, **sections)


def test_a_run_reads_what_is_new(kinesis: Kinesis, lake: Lake) -> None:
    stream = kinesis.stream(2)
    pipeline = over(stream)
    kinesis.send(stream, map(message, range(100)))
    grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(100))
    print(raw(lake, pipeline))
    kinesis.send(stream, map(message, range(100, 130)))
    grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(130))
    assert grown(lake, pipeline, BASE).table.rows == 130


def test_parents_are_read_before_their_children(kinesis: Kinesis, lake: Lake) -> None:
    stream = kinesis.stream(2)
    pipeline = over(stream)
    kinesis.send(stream, map(message, range(100)))
    grown(lake, pipeline, BASE)
    kinesis.send(stream, map(message, range(100, 200)))
    kinesis.split(stream, "shardId-000000000000")
    kinesis.send(stream, map(message, range(200, 300)))
    kinesis.merge(stream, "shardId-000000000002", "shardId-000000000003")
    kinesis.send(stream, map(message, range(300, 400)))
    grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(400))


def left(lake: Lake, pipeline: Pipeline, most: int = 1000) -> int:
    return pending(pipeline.source, cursor(lake, pipeline), None, most=most)  # type: ignore[arg-type]


def test_rows_are_what_was_sent_with_shard_number_and_key(kinesis: Kinesis, lake: Lake) -> None:
    stream = kinesis.stream()
    kinesis.send(stream, [message(1), b"\xff\x00", message(2)], keys=["a", "ключ", "c"])
    pipeline = over(stream, validation={"max_quarantined": 1.0, "min_rows": 1})
    grown(lake, pipeline, BASE)
    frame = raw(lake, pipeline).sort("_sequence")
    told = kinesis.client().get_records(
        ShardIterator=kinesis.client().get_shard_iterator(
            StreamName=stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
    )["Records"]
    assert frame["_sequence"].to_list() == [record["SequenceNumber"] for record in told]
    moments = [record["ApproximateArrivalTimestamp"] for record in told]
    assert frame["_timestamp"].to_list() == moments
    assert frame["_key"].to_list() == ["a", "ключ", "c"]
    result = validate(frame.lazy(), pipeline)
    assert result.report["valid_rows"] == 2
    (bad,) = result.quarantined.collect().to_dicts()
    assert "(message): json" in bad["_reasons"]
    assert bad["_shard"] == "shardId-000000000000"
    assert bad["_sequence"] == told[1]["SequenceNumber"]
    assert json.loads(bad["_etl_ml_original"]) == "data:;base64,/wA="


def test_a_record_that_was_put_twice_is_superseded_where_there_is_a_key(
    kinesis: Kinesis, lake: Lake
) -> None:
    stream = kinesis.stream(2)
    kinesis.send(stream, [message(1, age=30), message(1, age=30), message(1, age=31)])
    pipeline = over(stream, contract={"primary_key": ["id"]})
    grown(lake, pipeline, BASE)
    result = validate(raw(lake, pipeline).lazy(), pipeline)
    assert (result.report["valid_rows"], result.report["superseded_rows"]) == (1, 2)


def test_a_child_is_not_read_while_its_parent_has_records_left(
    kinesis: Kinesis, lake: Lake
) -> None:
    stream = kinesis.stream()
    kinesis.send(stream, map(message, range(100)))
    kinesis.split(stream, "shardId-000000000000")
    kinesis.send(stream, map(message, range(100, 200)))
    pipeline = over(stream, source={"max_rows": 60})
    assert grown(lake, pipeline, BASE).table.rows == 60
    assert set(raw(lake, pipeline)["_shard"]) == {"shardId-000000000000"}
    while left(lake, pipeline):
        grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(200))
    assert cursor(lake, pipeline)["position"]["shardId-000000000000"] == "end"


def test_the_first_run_begins_where_start_says(kinesis: Kinesis, tmp_path: Path) -> None:
    from etl_ml.lake import open_lake

    stream = kinesis.stream(2)
    kinesis.send(stream, map(message, range(50)))
    kinesis.split(stream, "shardId-000000000000")
    time.sleep(1.1)
    moment = datetime.now(UTC).isoformat()
    latest, since = open_lake(tmp_path / "latest"), open_lake(tmp_path / "since")
    marked = over(stream, source={"start": "latest"})
    time.sleep(1.1)
    assert grown(latest, marked, BASE).table.rows == 0
    kinesis.send(stream, map(message, range(50, 80)))
    grown(latest, marked, BASE)
    assert ids(latest, marked) == list(range(50, 80))
    timed = over(stream, source={"start": moment})
    grown(since, timed, BASE)
    assert ids(since, timed) == list(range(50, 80))
    # Read again, it begins where it once did.
    grown(latest, marked, BASE, refresh=True)
    assert ids(latest, marked) == list(range(50, 80))


def test_a_refresh_reads_everything_again_in_one_commit(kinesis: Kinesis, lake: Lake) -> None:
    stream = kinesis.stream(2)
    kinesis.send(stream, map(message, range(60)))
    pipeline = over(stream, source={"max_rows": 10})
    grown(lake, pipeline, BASE)
    assert grown(lake, pipeline, BASE, refresh=True).table.rows == 60
    assert ids(lake, pipeline) == list(range(60))


def test_a_stream_that_was_made_anew_is_refused(kinesis: Kinesis, lake: Lake) -> None:
    stream = kinesis.stream()
    kinesis.send(stream, [message(1)])
    pipeline = over(stream)
    grown(lake, pipeline, BASE)
    kinesis.client().delete_stream(StreamName=stream)
    kinesis.client().create_stream(StreamName=stream, ShardCount=1)
    kinesis.send(stream, [message(2)])
    with pytest.raises(SourceError, match="does not fit") as caught:
        grown(lake, pipeline, BASE)
    assert "etl-ml refresh" in str(caught.value)
    grown(lake, pipeline, BASE, refresh=True)
    assert ids(lake, pipeline) == [2]


def test_what_may_have_expired_is_named(kinesis: Kinesis, lake: Lake) -> None:
    stream = kinesis.stream()
    kinesis.send(stream, [message(1)])
    pipeline = over(stream)
    source: Any = pipeline.source
    grown(lake, pipeline, BASE)
    state = cursor(lake, pipeline)
    shard = "shardId-000000000000"
    # As if it had been read to its end two days ago; a day is kept.
    old = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    shards = Shards(source, None, state | {"until": {shard: old}}, None)
    assert shards.gaps[0].startswith(f"{shard}: whatever came between {old} and ")
    # As if a shard had gone that was not read to its end.
    state["position"] |= {"shardId-000000000099": "49", "shardId-000000000098": "end"}
    shards = Shards(source, None, state, None)
    assert shards.gaps == ["shardId-000000000099: has expired; it was read up to 49"]
    assert list(shards.position) == [shard]


def test_two_readers_at_once_append_each_record_once(kinesis: Kinesis, lake: Lake) -> None:
    stream = kinesis.stream(2)
    kinesis.send(stream, map(message, range(200)))
    pipeline = over(stream, source={"max_rows": 40})
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(5):
                grown(lake, pipeline, BASE)
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for one in readers:
        one.start()
    for one in readers:
        one.join()
    assert not errors
    assert ids(lake, pipeline) == list(range(200))


@pytest.mark.parametrize("place", ["batch:1", "before:1", "commit:1"])
def test_a_reader_that_is_killed_anywhere_costs_no_record_and_doubles_none(
    kinesis: Kinesis, lake: Lake, place: str
) -> None:
    stream = kinesis.stream(2)
    kinesis.send(stream, map(message, range(100)))
    pipeline = over(stream)
    given = pipeline.model_dump(mode="json", exclude_unset=True)
    del given["training"]
    command = [sys.executable, "-c", RUN, json.dumps(given), lake.url]
    run = subprocess.run(
        [*command, place], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    kinesis.send(stream, map(message, range(100, 120)))
    grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(120))


class Between:
    """A server between client and Kinesis; where `fault` gives an answer, that is the answer."""

    def __init__(self, server: Http, kinesis: Kinesis) -> None:
        self.fault: Callable[[str, Request], Answer | None] = lambda action, request: None
        self.endpoint, self._port = server.url, kinesis.port
        self.actions: list[str] = []
        server.routes["/"] = self._answer

    def _answer(self, request: Request) -> Answer:
        action = request.headers.get("x-amz-target", "").rpartition(".")[2]
        self.actions.append(action)
        if answer := self.fault(action, request):
            return answer
        connection = http_client.HTTPConnection("127.0.0.1", self._port)
        dropped = ("host", "content-length", "connection")
        headers = {k: v for k, v in request.headers.items() if k not in dropped}
        connection.request("POST", "/", request.body, headers)
        answer = connection.getresponse()
        kept = {name: answer.getheader(name) or "" for name in ("Content-Type", "Date")}
        return answer.status, kept, answer.read()


def refused(code: str, message: str = "no", status: int = 400) -> Answer:
    """As Kinesis says it."""
    return as_json({"__type": code, "message": message}, status)


@pytest.fixture
def between(http: Http, kinesis: Kinesis) -> Between:
    return Between(http, kinesis)


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        ("GetRecords", refused("ProvisionedThroughputExceededException")),
        ("GetRecords", refused("KMSThrottlingException")),
        ("GetRecords", refused("ExpiredIteratorException")),
        ("GetRecords", refused("InternalFailure", status=500)),
        ("GetRecords", (200, {"Content-Length": "9999"}, b'{"Records": [{"Seq')),
        ("GetShardIterator", refused("ProvisionedThroughputExceededException")),
        ("ListShards", refused("LimitExceededException")),
        ("DescribeStreamSummary", refused("LimitExceededException")),
    ],
)
def test_what_heals_is_asked_again_from_where_it_was(
    kinesis: Kinesis, lake: Lake, between: Between, action: str, fault: Answer
) -> None:
    stream = kinesis.stream(2)
    kinesis.send(stream, map(message, range(100)))
    faults = {action: 3}

    def broken(asked: str, request: Request) -> Answer | None:
        if faults.get(asked, 0) and (asked != "GetRecords" or len(between.actions) > 6):
            faults[asked] -= 1
            return fault
        return None

    between.fault = broken
    pipeline = over(stream, source={"endpoint": between.endpoint, "max_rows": 40})
    for _ in range(4):
        grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(100))
    assert faults == {action: 0}


def test_a_stream_that_stays_throttled_is_told_and_nothing_is_written(
    kinesis: Kinesis, lake: Lake, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "Backoff", lambda patience=0.0: Backoff(0.5))
    stream = kinesis.stream()
    kinesis.send(stream, [message(1)])
    between.fault = lambda action, request: (
        refused("ProvisionedThroughputExceededException", "Rate exceeded")
        if action == "GetRecords"
        else None
    )
    with pytest.raises(SourceError, match="too busy") as caught:
        grown(lake, over(stream, source={"endpoint": between.endpoint}), BASE)
    assert "Rate exceeded" in str(caught.value)
    assert lake.versions("loans", "raw_data") == []


def test_what_is_wrong_is_told_by_its_name(
    kinesis: Kinesis, lake: Lake, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = kinesis.stream()
    with pytest.raises(SourceError, match="no such stream") as caught:
        grown(lake, over(stream + "x"), BASE)
    assert str(caught.value.close).startswith("stream-")
    assert caught.value.where == "source.stream"
    with pytest.raises(SourceError, match="there is no message yet"):
        grown(lake, over(stream), BASE)
    between.fault = lambda action, request: refused("ExpiredTokenException", "It has expired")
    with pytest.raises(SourceError, match="credentials have expired"):
        grown(lake, over(stream, source={"endpoint": between.endpoint}), BASE)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(SourceError, match="there are no credentials"):
        grown(lake, over(stream), BASE)


def test_a_count_is_bounded_by_what_is_asked(kinesis: Kinesis, lake: Lake) -> None:
    stream = kinesis.stream(2)
    kinesis.send(stream, map(message, range(100)))
    pipeline = over(stream)
    source: Any = pipeline.source
    assert pending(source, None, None, most=1000) == 100
    assert pending(source, None, None, most=30) == 30
    grown(lake, pipeline, BASE)
    assert left(lake, pipeline) == 0
    kinesis.send(stream, map(message, range(7)))
    assert left(lake, pipeline) == 7
