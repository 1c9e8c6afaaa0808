"""Kafka: each message exactly once, whatever happens to it meanwhile."""

from __future__ import annotations

from pathlib import Path

from etl_ml.lake import Lake
from etl_ml_tests.extract.collections import grown, raw
from etl_ml_tests.extract.streams import ids, message, pipeline_over
from etl_ml_tests.servers.kafka import Kafka

BASE = Path()


def test_a_run_reads_what_is_new(kafka: Kafka, lake: Lake) -> None:
    topic = kafka.topic(2)
    pipeline = pipeline_over(kafka, topic)
    kafka.send(topic, [message(i) for i in range(50)])
    kafka.send(topic, [message(i) for i in range(50, 80)], partition=1, keys=[str(i) for i in range(30)])
    first = grown(lake, pipeline, BASE)
    print(first.table.cursor)
    print(raw(lake, pipeline))
    assert ids(lake, pipeline) == list(range(80))
    nothing = grown(lake, pipeline, BASE)
    assert nothing.manifest.table == first.manifest.table
    kafka.send(topic, [message(i) for i in range(80, 90)])
    second = grown(lake, pipeline, BASE)
    assert ids(lake, pipeline) == list(range(90))
    print(second.table.cursor)
