"""Kafka micro-batches into the lake, JSON decoded, against a consumer that decodes for pandas.

    python benchmarks/automation_streams.py [--rows N]

Each in a process of its own, with imports that are not counted, from one broker on this machine.
CPU seconds are those of all threads, the client's own included, the least of three runs: other work
on the machine only adds to them. Beside it the tick of a sensor, which only counts, and Avro.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Cost, measure, print_table

if TYPE_CHECKING:
    from etl_ml_tests.servers.kafka import Kafka

_PARTITIONS = 4
_CONSUME = """
from confluent_kafka import Consumer, TopicPartition
def messages():
    consumer = Consumer({"bootstrap.servers": SERVERS, "group.id": "bench", "log_level": 0,
                         "enable.partition.eof": True, "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(4)])
    ends = 0
    while ends < 4:
        found = consumer.consume(10_000, 0.2)
        good = [m for m in found if m.error() is None]
        ends += len(found) - len(good)
        yield good
"""
_BARE = """
rows = sum(len([m.value() for m in batch]) for batch in messages())
assert rows == ROWS, rows
"""
_PEER = """
frame = pd.DataFrame([json.loads(m.value()) for batch in messages() for m in batch])
assert len(frame) == ROWS
"""
_TO_DELTA = (
    _PEER
    + """
with tempfile.TemporaryDirectory() as folder:
    write_deltalake(folder, frame)
"""
)
_SETUP = """
import json, sys, tempfile
from pathlib import Path
import deltalake, fastavro, polars, pyarrow, pyarrow.compute
import confluent_kafka, confluent_kafka.admin, confluent_kafka.schema_registry
from etl_ml.extract import extract_new
from etl_ml.extract.kafka import open_kafka, pending
from etl_ml.lake import Contents, open_lake
from etl_ml.spec import parse
source = {"type": "kafka", "bootstrap_servers": SERVERS, "topics": [TOPIC], "max_rows": 10**8,
          "max_seconds": 3600, **MORE}
pipeline = parse({"name": "bench", "source": source, "contract": {"columns": COLUMNS},
                  "target": {"column": "label"}}, file="bench")
"""
_DECODED = """
reader = open_kafka(pipeline.source, pipeline.contract, base=Path(), state=None)
rows = sum(batch.num_rows for batch in reader)
assert rows == ROWS, rows
"""
_LAKE = """
with tempfile.TemporaryDirectory() as folder:
    lake = open_lake(folder)
    grow = lambda head: extract_new(pipeline, head, base=Path())
    version = lake.write("bench", "raw_data", Contents(grow=grow))
    assert version.table.rows == ROWS
"""
_TICK = """
assert pending(pipeline.source, None, base=Path()) == ROWS
"""


def narrow(rng: random.Random, number: int) -> dict[str, Any]:
    """Ten fields, some 200 bytes."""
    return {
        "order": f"o-{number:09d}",
        "customer": rng.randrange(10**6),
        "amount": round(rng.random() * 1000, 2),
        "discount": rng.random(),
        "country": rng.choice(["DE", "FR", "IT"]),
        "express": rng.random() < 0.3,
        "placed_at": f"2026-10-{number % 28 + 1:02d}T12:{number % 60:02d}:00Z",
        "items": rng.randrange(1, 9),
        "note": None if number % 3 else "hello wörld",
        "label": rng.randrange(2),
    }


def wide(rng: random.Random, number: int) -> dict[str, Any]:
    """31 fields, some 600 bytes."""
    more = {f"i{n}": rng.randrange(10**6) for n in range(8)}
    more |= {f"f{n}": rng.random() for n in range(8)}
    more |= {f"s{n}": rng.choice(["red", "green", "blue"]) for n in range(5)}
    return narrow(rng, number) | more


def contract(row: dict[str, Any]) -> dict[str, Any]:
    kinds = {bool: "boolean", int: "integer", float: "float", str: "string"}
    return {n: {"type": kinds.get(type(v), "string")} for n, v in row.items()}


def fill(server: Kafka, rows: int, values: Iterator[bytes]) -> str:
    topic = server.topic(_PARTITIONS)
    producer = server.producer(**{"linger.ms": 50, "compression.type": "lz4"})
    for number, value in zip(range(rows), values, strict=False):
        while True:
            try:
                producer.produce(topic, value, f"k{number}", partition=number % _PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    return topic


def avro(first: dict[str, Any]) -> tuple[str, Callable[[dict[str, Any]], bytes]]:
    """A registry with one schema, and what writes a record in its frame."""
    from fastavro import parse_schema, schemaless_writer

    kinds = {bool: "boolean", int: "long", float: "double", str: "string"}
    fields = [
        {"name": name, "type": ["null", kinds.get(type(value), "string")]}
        for name, value in first.items()
    ]
    schema = {"type": "record", "name": "Order", "fields": fields}
    parsed = parse_schema(schema)
    body = json.dumps({"schema": json.dumps(schema)}).encode()

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def write(row: dict[str, Any]) -> bytes:
        stream = io.BytesIO(b"\x00\x00\x00\x00\x01")
        stream.seek(5)
        schemaless_writer(stream, parsed, row)
        return stream.getvalue()

    return f"http://127.0.0.1:{server.server_address[1]}", write


def least(code: str, setup: str) -> Cost:
    return min((measure(code, setup=setup) for _ in range(3)), key=lambda cost: cost.cpu)


def line(name: str, rows: int, cost: Cost, peer: Cost | None = None) -> list[str]:
    ratio = f"{peer.cpu / cost.cpu:.1f} ×" if peer else ""
    speed = f"{rows / cost.cpu / 1000:,.0f}"
    return [name, f"{cost.cpu:.2f}", speed, ratio, f"{cost.rss:,.0f}"]


def main(rows: int) -> None:
    sys.path.append(str(Path(__file__).parents[1]))  # the tests are not installed
    from etl_ml_tests.servers.kafka import Kafka

    with tempfile.TemporaryDirectory() as folder:
        server = Kafka(Path(folder))
        server.start()
        try:
            for title, make in (("10 fields", narrow), ("31 fields", wide)):
                rng = random.Random(0)
                first = make(rng, 0)
                sent = (json.dumps(make(rng, number)).encode() for number in range(rows))
                topic = fill(server, rows, sent)
                known = f"SERVERS, TOPIC, ROWS = '{server.servers}', '{topic}', {rows}\n"
                known += f"COLUMNS, MORE = {contract(first)!r}, {{}}\n"
                plain = known + _CONSUME + "import json, tempfile, pandas as pd\n"
                plain += "from deltalake import write_deltalake\n"
                peer = least(_PEER, plain)
                stored = least(_TO_DELTA, plain)
                table = [
                    ["", "CPU s", "k messages / CPU s", "less", "peak MB"],
                    line("a consumer, nothing decoded", rows, least(_BARE, plain)),
                    line("a consumer, json.loads, DataFrame", rows, peer),
                    line("… and write_deltalake", rows, stored),
                    line("etl_ml, decoded", rows, least(_DECODED, known + _SETUP), peer),
                    line("etl_ml, in the lake", rows, least(_LAKE, known + _SETUP), stored),
                ]
                if make is narrow:
                    tick = least(_TICK, known + _SETUP)
                    url, write = avro(first)
                    rng = random.Random(0)
                    topic = fill(server, rows, (write(make(rng, n)) for n in range(rows)))
                    more = {"format": "avro", "schema_registry": {"url": url}}
                    known = f"SERVERS, TOPIC, ROWS = '{server.servers}', '{topic}', {rows}\n"
                    known += f"COLUMNS, MORE = {contract(first)!r}, {more!r}\n"
                    in_lake = least(_LAKE, known + _SETUP)
                    table.append(line("etl_ml, in the lake, Avro", rows, in_lake))
                print_table(f"Kafka, {rows:,} JSON messages of {title}", table)
            print(f"\nA sensor's count: {tick.cpu * 1000:.0f} ms CPU, {tick.wall * 1000:.0f} ms")
        finally:
            server.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    main(parser.parse_args().rows)
