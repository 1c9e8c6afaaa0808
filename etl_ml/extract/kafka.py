"""Kafka: what is new in the topics of one cluster.

Partitions are assigned here, so that no group's rebalance can interrupt a read, and places are
those of the lake's last commit: what a broker remembers of the group is never trusted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.kafka_client import HEALS, KafkaClient, Partition
from etl_ml.extract.kafka_places import Span, made_anew, partition_name, places, written
from etl_ml.extract.messages import JsonValues, Messages, Values, keys
from etl_ml.spec.contract import Contract
from etl_ml.spec.stream import KafkaSource

if TYPE_CHECKING:
    import pyarrow as pa
    from confluent_kafka import Message

_MESSAGES = 10_000  # a batch
_POLL_SECONDS = 0.2
_PATIENCE = 180.0  # seconds without any answer
_QUEUED_KB = 64 << 10


def open_kafka(
    source: KafkaSource,
    contract: Contract,
    *,
    base: Path,
    state: Mapping[str, Any] | None,
    again: Mapping[str, Any] | None = None,
    whole: bool = False,
    log: Callable[[str], None] | None = None,
) -> KafkaReader:
    """Look where each partition is read from, and up to where.

    Parameters
    ----------
    base : the folder that paths of certificates start from
    state : the cursor of the last commit, None to begin with `source.start`
    again : without a state, the cursor of what is read again, from where that once began
    whole : read as far as it goes now, without a bound
    log : told of gaps

    Raises
    ------
    SourceError
        The cluster cannot be asked, or it, or a topic, is another one than before.
    """
    return KafkaReader(source, contract, base, state, again, whole, log)


def pending(source: KafkaSource, state: Mapping[str, Any] | None, *, base: Path) -> int:
    """How many offsets are past a committed cursor; nothing is read.

    Markers of transactions and offsets that compaction left empty are counted too, until a run has
    passed them.

    Raises
    ------
    SourceError
        As `open_kafka`.
    """
    client = KafkaClient(source, base)
    try:
        span = Span.of(source, client, state, None)
    finally:
        client.close()
    return sum(span.end[where] - place for where, place in span.start.items())


class KafkaReader:
    """The messages of all partitions; see `StreamReader`."""

    def __init__(
        self,
        source: KafkaSource,
        contract: Contract,
        base: Path,
        state: Mapping[str, Any] | None,
        again: Mapping[str, Any] | None,
        whole: bool,
        log: Callable[[str], None] | None,
    ) -> None:
        import pyarrow as pa

        self._source, self._log = source, log
        self._messages = Messages(
            contract,
            _values(source),
            {
                "_topic": pa.string(),
                "_partition": pa.int64(),
                "_offset": pa.int64(),
                "_timestamp": pa.timestamp("us", "UTC"),
                "_key": pa.string(),
            },
        )
        self.schema = self._messages.schema
        self.origin: tuple[str, ...] = (source.address,)
        self._whole = whole
        self._client = KafkaClient(source, base)
        try:
            self._span = Span.of(source, self._client, state, again)
        except BaseException:
            self._client.close()
            raise
        self._known = places((state or {}).get("position", {}))
        self._position = dict(self._span.start)
        self._skipped = 0
        for gap in self._span.gaps:
            self._tell_gap(gap)

    @property
    def total(self) -> int:
        new = sum(self._span.end[where] - place for where, place in self._span.start.items())
        return new if self._whole else min(new, self._source.max_rows)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        from confluent_kafka import TopicPartition

        left = {where for where, place in self._position.items() if place < self._span.end[where]}
        if not left:
            return
        consumer = self._client.consumer(
            **{
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": _QUEUED_KB,
            }
        )
        rows, began, heard = 0, time.monotonic(), time.monotonic()
        most = float("inf") if self._whole else self._source.max_rows
        seconds = float("inf") if self._whole else self._source.max_seconds
        try:
            self._assign(consumer, left)
            while left and rows < most:
                now = time.monotonic()
                if now - began > seconds and rows:
                    break
                if now - heard > _PATIENCE:
                    self._no_answer()
                found = consumer.consume(int(min(most - rows, _MESSAGES)), _POLL_SECONDS)
                before = sum(self._position.values())
                if events := [message for message in found if message.error() is not None]:
                    found = [message for message in found if message.error() is None]
                batch = self._batch(found)
                expired = [event for event in events if self._is_expired(event)]
                if batch is not None:
                    rows += batch.num_rows
                    yield batch
                if sum(self._position.values()) != before:
                    heard = time.monotonic()
                done = {where for where in left if self._position[where] >= self._span.end[where]}
                left -= done
                if expired:
                    self._assign(consumer, left)
                elif done and left:
                    consumer.pause([TopicPartition(*where) for where in done])
            if left:
                more = sum(self._span.end[where] - self._position[where] for where in left)
                self._tell(f"{more:,} messages are left for the next run")
        finally:
            consumer.close()

    def cursor(self) -> dict[str, Any]:
        return {
            "column": "_offset",
            "position": written({**self._known, **self._position}),
            "began": written(self._span.began),
            "start": self._source.start,
            "cluster": self._client.cluster,
            "topics": self._client.topics,
            "skipped": self._skipped,
            "gaps": self._span.gaps,
        }

    def moved(self) -> bool:
        return {**self._known, **self._position} != self._known

    def committed(self) -> None:
        from confluent_kafka import KafkaException

        group = self._source.group
        if group is None:
            return
        try:
            self._client.commit(group, self._position)
        except (KafkaException, TimeoutError) as error:
            self._tell(f"group {group} was not told how far the lake is: {error}")

    def close(self) -> None:
        self._client.close()

    def _batch(self, found: list[Message]) -> pa.RecordBatch | None:
        """Messages that are not known yet; the position moves behind them."""
        from confluent_kafka import Message

        if not found:
            return None
        own: dict[str, Any] = {
            "_topic": list(map(Message.topic, found)),
            "_partition": list(map(Message.partition, found)),
            "_offset": list(map(Message.offset, found)),
        }
        fresh = self._fresh(own["_topic"], own["_partition"], own["_offset"])
        if len(fresh) < len(found):
            found = [found[at] for at in fresh]
            own = {name: [column[at] for at in fresh] for name, column in own.items()}
        if not found:
            return None
        own["_timestamp"] = _moments(found)
        own["_key"] = keys(list(map(Message.key, found)))
        return self._messages.batch(list(map(Message.value, found)), own)

    def _fresh(self, topics: list[str], partitions: list[int], offsets: list[int]) -> list[int]:
        """Which messages come for the first time: all, unless a broker sends some again."""
        import numpy as np

        parts = list(self._position)
        number = {where: at for at, where in enumerate(parts)}
        codes = np.array([number[where] for where in zip(topics, partitions, strict=True)])
        order = np.array(offsets)
        fresh = np.ones(len(order), bool)
        for code in np.unique(codes):
            here, start = np.flatnonzero(codes == code), self._position[parts[code]]
            reached = np.maximum.accumulate(np.r_[start - 1, order[here][:-1]])
            fresh[here] = order[here] > reached
            end = self._position[parts[code]] = max(start, int(order[here].max()) + 1)
            self._skipped += end - start - int(fresh[here].sum())
        return np.flatnonzero(fresh).tolist()

    def _assign(self, consumer: Any, partitions: Iterable[Partition]) -> None:
        from confluent_kafka import TopicPartition

        consumer.assign([TopicPartition(*where, self._position[where]) for where in partitions])

    def _is_expired(self, event: Any) -> bool:
        """Take note of what is no message; whether what was to be read next has just expired."""
        error, where = event.error(), (event.topic(), event.partition())
        if error.name() == "_PARTITION_EOF":
            # What lies before the end and is no message is a marker, or was compacted away.
            end = max(event.offset(), self._position[where])
            self._skipped += end - self._position[where]
            self._position[where] = end
        elif error.name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"):
            place, first = self._position[where], self._client.earliest([where])[where]
            if first <= place:
                made_anew(self._source, f"{partition_name(where)} has no offset {place:,} any more")
            self._span.gap(where, place, first)
            self._tell_gap(self._span.gaps[-1])
            self._position[where] = first
            return True
        elif error.name() not in HEALS:
            self._client.refuse(error)
        return False

    def _no_answer(self) -> NoReturn:
        from confluent_kafka import KafkaError

        self._client.refuse(self._client.said() or KafkaError(KafkaError._TIMED_OUT))

    def _tell_gap(self, gap: str) -> None:
        self._tell(f"{gap} are not there any more; reading goes on behind them")

    def _tell(self, line: str) -> None:
        if self._log:
            self._log(f"Kafka: {line}")


def _values(source: KafkaSource) -> Values:
    if source.format == "json":
        return JsonValues()
    from etl_ml.extract.avro import AvroValues

    return AvroValues(source)


def _moments(messages: list[Message]) -> pa.Array:
    """Timestamps in microseconds, UTC; null where a message has none."""
    import pyarrow as pa

    told = (message.timestamp() for message in messages)
    stamps = pa.array([at if kind else None for kind, at in told], pa.timestamp("ms", "UTC"))
    return stamps.cast(pa.timestamp("us", "UTC"))
