"""moto's server with Kinesis as AWS documents it.

moto moves the records of a shard that is split or merged to its children, writes to closed shards,
and gives these an iterator for ever. Run as a script, this starts the server without that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Any

from moto.core.responses import ActionResult
from moto.kinesis.models import Record, Shard, Stream
from moto.kinesis.responses import KinesisResponse
from moto.kinesis.utils import compose_shard_iterator, decompose_shard_iterator
from moto.server import main

_numbers = count(49 * 10**54, 7)  # of 56 digits, growing over all shards


def _put_record(self: Any, partition_key: str, data: str, explicit_hash_key: str) -> str:
    number = next(_numbers)
    self.records[number] = Record(partition_key, data, number, explicit_hash_key)
    return str(number)


def _shard_for_key(stream: Any, find: Callable[..., Any]) -> Callable[..., Any]:
    def only_open(*key: Any) -> Any:
        every, stream.shards = stream.shards, {n: s for n, s in stream.shards.items() if s.is_open}
        try:
            return find(stream, *key)
        finally:
            stream.shards = every

    return only_open


def _keeping_records(change: Callable[..., Any]) -> Callable[..., Any]:
    def changed(self: Any, *arguments: Any) -> Any:
        kept = {name: shard.records for name, shard in self.shards.items()}
        for shard in self.shards.values():
            shard.records = OrderedDict()
        try:
            return change(self, *arguments)
        finally:
            for name, records in kept.items():
                self.shards[name].records = records

    return changed


def _get_records(self: Any) -> ActionResult:
    name, shard_id, last = decompose_shard_iterator(self._get_param("ShardIterator"))
    stream = self.kinesis_backend.describe_stream(stream_arn=None, stream_name=name)
    shard = stream.shards[shard_id]
    left = [record for number, record in shard.records.items() if number > int(last)]
    page = left[: self._get_param("Limit") or len(left)]
    behind = 0
    if len(left) > len(page):
        behind = max(1, int((left[-1].created_at - page[-1].created_at) * 1000))
    answer = {"Records": [record.to_json() for record in page], "MillisBehindLatest": behind}
    if shard.is_open or behind:
        place = page[-1].sequence_number if page else last
        answer["NextShardIterator"] = compose_shard_iterator(name, shard, place)
    return ActionResult(answer)


if __name__ == "__main__":
    find = Stream.get_shard_for_key
    Stream.get_shard_for_key = lambda self, *key: _shard_for_key(self, find)(*key)
    Stream.split_shard = _keeping_records(Stream.split_shard)
    Stream.merge_shards = _keeping_records(Stream.merge_shards)
    Shard.put_record = _put_record
    KinesisResponse.get_records = _get_records
    main()
