"""Kafka by noida-db: transactions, compaction, retention and deletion of records as in Apache's.

`stop` keeps what was acknowledged, `kill` may lose the last moments. It takes any user of SASL
PLAIN and has no TLS; all its topics have the same id.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from etl_ml_tests.servers.process import Server

_numbers = count()


class Kafka(Server):
    """`topic()` makes a fresh one."""

    name = "noida-db"
    install = "pip install noida-db==0.2.3"
    program = "noida-db"

    @classmethod
    def found(cls) -> str | None:
        """The packaged binary itself: its wrapper would be the one that a signal ends."""
        package = importlib.util.find_spec("noida_db")
        if package is None or package.origin is None:
            return None
        return shutil.which(Path(package.origin).parent / cls.program)

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        where = ["--data-dir", str(self.folder / "data"), "--kafka-port", str(self.port)]
        return ["start", "--only", "kafka", *where]

    def ask(self) -> None:
        self.admin().list_topics(timeout=1)

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def producer(self, **settings: Any) -> Producer:
        return Producer({"bootstrap.servers": self.servers, "log_level": 0, **settings})

    def topic(self, partitions: int = 1, **settings: str) -> str:
        """A topic of its own; settings have `_` for the dots of Kafka's names."""
        name = f"topic-{next(_numbers)}"
        config = {key.replace("_", "."): value for key, value in settings.items()}
        self.make_topic(name, partitions, config)
        return name

    def make_topic(self, name: str, partitions: int, config: dict[str, str] | None = None) -> None:
        admin = self.admin()
        admin.create_topics([NewTopic(name, partitions, 1, config=config or {})])[name].result(10)

    def send(
        self,
        topic: str,
        values: Iterable[bytes | str | None],
        *,
        partition: int = 0,
        keys: Iterable[bytes | str | None] | None = None,
        timestamps: Iterable[int] | None = None,
    ) -> None:
        """Produce and wait until all is acknowledged; timestamps in milliseconds since 1970."""
        producer = self.producer()
        values = list(values)
        more: list[Mapping[str, Any]] = [
            {"key": key, **({"timestamp": moment} if moment else {})}
            for key, moment in zip(
                keys or [None] * len(values), timestamps or [0] * len(values), strict=True
            )
        ]
        for value, options in zip(values, more, strict=True):
            producer.produce(topic, value=value, partition=partition, **options)
            producer.poll(0)
        assert producer.flush(30) == 0

    def delete_records(self, topic: str, before: int, partition: int = 0) -> None:
        """As retention does: offsets before one are gone."""
        admin = self.admin()
        where = TopicPartition(topic, partition, before)
        for answer in admin.delete_records([where]).values():
            answer.result(10)

    def add_partitions(self, topic: str, total: int) -> None:
        admin = self.admin()
        admin.create_partitions([NewPartitions(topic, total)])[topic].result(10)

    def delete_topic(self, topic: str) -> None:
        admin = self.admin()
        admin.delete_topics([topic])[topic].result(10)

    def group_offsets(self, group: str, topic: str, partitions: int = 1) -> list[int]:
        """What a consumer group has committed; a negative number for nothing."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group, "log_level": 0})
        places = [TopicPartition(topic, number) for number in range(partitions)]
        found = [place.offset for place in consumer.committed(places, timeout=10)]
        consumer.close()
        return found
