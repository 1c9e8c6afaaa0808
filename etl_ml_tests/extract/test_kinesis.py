"""Kinesis: each record exactly once, through resharding, throttling and expired iterators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etl_ml.lake import Lake
from etl_ml.spec import Pipeline
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import grown, raw
from etl_ml_tests.extract.streams import COLUMNS, ids, message
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
