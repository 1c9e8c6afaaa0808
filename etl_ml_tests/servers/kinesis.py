"""Kinesis by moto, corrected where it is not as AWS documents it: see `moto_kinesis`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import boto3

from etl_ml_tests.servers.process import Server

_numbers = count()


class Kinesis(Server):
    """`stream()` makes a fresh one. What was written does not outlive `stop`."""

    name = "moto"
    install = "pip install 'moto[server]'"
    program = "python"
    region = "us-east-1"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "the-secret-of-tests",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def client(self) -> Any:
        return boto3.Session().client(
            "kinesis",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id="tests",
            aws_secret_access_key="the-secret-of-tests",
        )

    def stream(self, shards: int = 1) -> str:
        """A stream of its own."""
        name = f"stream-{next(_numbers)}"
        self.client().create_stream(StreamName=name, ShardCount=shards)
        self.client().get_waiter("stream_exists").wait(StreamName=name)
        return name

    def send(self, stream: str, values: Iterable[bytes], keys: Iterable[str] | None = None) -> None:
        """Put records; the keys are numbers by default, so that all shards have some."""
        client, values = self.client(), list(values)
        named = list(keys) if keys else [str(number) for number in range(len(values))]
        for start in range(0, len(values), 500):
            records = [
                {"Data": value, "PartitionKey": key}
                for value, key in zip(values[start:], named[start:], strict=True)
            ]
            answer = client.put_records(StreamName=stream, Records=records[:500])
            assert answer["FailedRecordCount"] == 0

    def split(self, stream: str, shard: str) -> None:
        """Close a shard; two children take its place."""
        found = {s["ShardId"]: s for s in self.client().list_shards(StreamName=stream)["Shards"]}
        ends = found[shard]["HashKeyRange"]
        middle = (int(ends["StartingHashKey"]) + int(ends["EndingHashKey"])) // 2
        self.client().split_shard(
            StreamName=stream, ShardToSplit=shard, NewStartingHashKey=str(middle)
        )

    def merge(self, stream: str, first: str, second: str) -> None:
        """Close two adjacent shards; one child takes their place."""
        self.client().merge_shards(
            StreamName=stream, ShardToMerge=first, AdjacentShardToMerge=second
        )

    def command(self) -> list[str]:
        script = Path(__file__).with_name("moto_kinesis.py")
        return ["-P", str(script), "-H", "127.0.0.1", "-p", str(self.port)]

    def ask(self) -> None:
        self.client().list_streams()
