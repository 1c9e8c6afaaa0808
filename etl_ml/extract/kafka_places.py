"""Where each partition of a Kafka topic is read from, and up to where."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NoReturn

from etl_ml.extract.kafka_client import KafkaClient, Partition
from etl_ml.extract.source_error import SourceError
from etl_ml.spec.stream import KafkaSource

_WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds


class Span:
    """From where to where each partition is read.

    Attributes
    ----------
    began : where the first run began, which is where a refresh begins
    gaps : of offsets that should have been read, and are not there any more
    """

    def __init__(self, began: Mapping[Partition, int], end: Mapping[Partition, int]) -> None:
        self.began, self.end = dict(began), dict(end)
        self.start: dict[Partition, int] = {}
        self.gaps: list[str] = []

    @staticmethod
    def of(
        source: KafkaSource,
        client: KafkaClient,
        state: Mapping[str, Any] | None,
        again: Mapping[str, Any] | None,
    ) -> Span:
        low, end = client.earliest(client.partitions), client.latest(client.partitions)
        known = places((state or {}).get("position", {}))
        for wait in _WAITS:
            if all(place <= end.get(where, place) for where, place in known.items()):
                break
            # A leader that has just come back may not know yet how far its followers are.
            time.sleep(wait)
            end = client.latest(client.partitions)
        if state is not None:
            began = places(state["began"])
            _check_same(source, client, state)
        elif again is not None and again.get("start") == source.start:
            began = known = places(again["began"])
        else:
            began = _first(source, client, low, end)
            known = dict(began)
        span = Span(began, end)
        for where in client.partitions:
            # A partition that was not there before is read from its beginning.
            place = known.get(where, low[where])
            span.began.setdefault(where, place)
            if place > end[where]:
                made_anew(
                    source,
                    f"{partition_name(where)} ends at {end[where]:,}, and {place:,} was read",
                )
            if place < low[where]:
                span.gap(where, place, low[where])
            span.start[where] = max(place, low[where])
        return span

    def gap(self, where: Partition, place: int, first: int) -> None:
        self.gaps.append(f"{partition_name(where)}: offsets {place:,} to {first - 1:,}")


def _first(
    source: KafkaSource,
    client: KafkaClient,
    low: Mapping[Partition, int],
    end: Mapping[Partition, int],
) -> dict[Partition, int]:
    """Where `source.start` is."""
    if source.start == "earliest":
        return dict(low)
    if source.start_at is None:
        return dict(end)
    found = client.since(int(source.start_at.timestamp() * 1000), low)
    return {where: end[where] if place < 0 else place for where, place in found.items()}


def _check_same(source: KafkaSource, client: KafkaClient, state: Mapping[str, Any]) -> None:
    """Offsets have no meaning in another cluster, or in a topic that was made anew."""
    if state["cluster"] != client.cluster:
        made_anew(source, "it is another cluster than the one that was read")
    for topic, known in state["topics"].items():
        if client.topics.get(topic, known) != known:
            made_anew(source, f"{topic} is another topic than the one of that name that was read")


def made_anew(source: KafkaSource, seen: str) -> NoReturn:
    raise SourceError(
        f"{source.address}: what was read of it does not fit what is there now.",
        seen=seen,
        where="source",
        fix="put the source back as it was, or read everything again, in one commit, by etl-ml "
        "refresh",
    )


def partition_name(where: Partition) -> str:
    return f"{where[0]}/{where[1]}"


def places(texts: Mapping[str, int]) -> dict[Partition, int]:
    """Offsets by partition, from what JSON can hold."""
    split = ((text.rpartition("/"), offset) for text, offset in texts.items())
    return {(topic, int(number)): offset for (topic, _, number), offset in split}


def written(offsets: Mapping[Partition, int]) -> dict[str, int]:
    return {partition_name(where): place for where, place in offsets.items()}
