"""A Kafka cluster: how it is connected to, what it has, and what it refuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.source_error import SourceError, SourceUnavailable
from etl_ml.lake.backoff import Backoff
from etl_ml.spec.error import bounded, listed, nearest
from etl_ml.spec.stream import KafkaSource

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

Partition = tuple[str, int]
"""A topic's name, and the number of one of its partitions."""

HEALS = {
    *("_TRANSPORT", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_ALL_BROKERS_DOWN", "REQUEST_TIMED_OUT"),
    *("LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION", "BROKER_NOT_AVAILABLE"),
    *("REPLICA_NOT_AVAILABLE", "OFFSET_NOT_AVAILABLE", "NETWORK_EXCEPTION", "KAFKA_STORAGE_ERROR"),
    *("FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH", "UNKNOWN_TOPIC_OR_PART", "_WAIT_COORD"),
}
"""Names of errors that pass by themselves."""

_CONNECT_SECONDS = 20.0
_ASK_SECONDS = 30.0
_QUIET = logging.getLogger(__name__)
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class KafkaClient:
    """One cluster, asked without reading a message.

    Attributes
    ----------
    cluster : the cluster's own id, empty where it has none
    partitions : all partitions of the source's topics
    topics : by name the id of each topic, which another topic of that name does not have; without
        those whose broker gives none

    Raises
    ------
    SourceError
        No broker answers, user or certificate are refused, or a topic is not there.
    """

    def __init__(self, source: KafkaSource, base: Path) -> None:
        try:
            from confluent_kafka import KafkaException
        except ModuleNotFoundError:
            raise SourceError(
                "A source of type kafka needs packages that are not installed.",
                where="source.type",
                fix="pip install 'etl_ml[kafka]'",
            ) from None
        self._source = source
        self._told: list[KafkaError] = []
        self._settings = _settings(source, base) | {"error_cb": self._told.append}
        try:
            self._admin = self._new("AdminClient")
            # Asked by a consumer, a cluster makes no topic that is not there.
            self._consumer = self.consumer()
        except KafkaException as error:
            self.refuse(error.args[0], where="source.security")
        self.cluster, self.partitions = self._look()
        self.topics = self._topic_ids()

    def consumer(self, **settings: Any) -> Any:
        """A consumer that commits nothing by itself and reads what is committed."""
        return self._new(
            "Consumer",
            {
                "group.id": self._source.group or "etl_ml",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "allow.auto.create.topics": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                **settings,
            },
        )

    def earliest(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offset that each partition still has."""
        return self._offsets(partitions, "earliest")

    def latest(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset behind the last one that is committed."""
        return self._offsets(partitions, "latest")

    def since(self, milliseconds: int, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offset with a timestamp at or behind one; -1 where there is none."""
        return self._offsets(partitions, "for_timestamp", milliseconds)

    def commit(self, group: str, position: Mapping[Partition, int]) -> None:
        """Tell a consumer group how far the lake is; raises KafkaException, TimeoutError."""
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        places = [TopicPartition(*where, offset) for where, offset in position.items()]
        asked = ConsumerGroupTopicPartitions(group, places)
        for answer in self._admin.alter_consumer_group_offsets([asked]).values():
            answer.result(_ASK_SECONDS)

    def close(self) -> None:
        self._consumer.close()

    def refuse(self, error: KafkaError, *, where: str = "source") -> NoReturn:
        """Raise what an error of the client means for the person who set it up."""
        named = {
            "_AUTHENTICATION": (
                "the user or certificate is refused",
                "correct source.security",
                "source.security",
            ),
            "_SSL": (
                "the encrypted connection cannot be made",
                "correct source.security, e.g. ca or protocol",
                "source.security",
            ),
            "_RESOLVE": (
                "there is no such host",
                "correct source.bootstrap_servers",
                "source.bootstrap_servers",
            ),
            "TOPIC_AUTHORIZATION_FAILED": (
                "the user may not read the topic",
                "allow DESCRIBE and READ on the topic",
                "source.topics",
            ),
        }
        silent = ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_MSG_TIMED_OUT")
        for name in silent:
            named[name] = (
                "no broker answers",
                "correct source.bootstrap_servers and source.security.protocol; look at the "
                "network",
                "source.bootstrap_servers",
            )
        what, fix, place = named.get(error.name(), ("Kafka refuses", "look at what it says", where))
        raise (SourceUnavailable if error.name() in silent else SourceError)(
            f"{self._source.address}: {what}.",
            seen=bounded(f"{error.name().lstrip('_')}: {error.str()}", 200),
            where=place,
            fix=fix,
        ) from None

    def said(self) -> KafkaError | None:
        """What was told last of connections, the most telling first; forgotten then."""
        told, self._told[:] = list(self._told), []
        for names in (("_AUTHENTICATION", "_SSL", "_RESOLVE"), ("_TRANSPORT",)):
            for error in reversed(told):
                if error.name() in names:
                    return error
        return told[-1] if told else None

    def _new(self, kind: str, settings: Mapping[str, Any] | None = None) -> Any:
        from confluent_kafka import Consumer
        from confluent_kafka.admin import AdminClient

        made = {"AdminClient": AdminClient, "Consumer": Consumer}[kind]
        return made({**self._settings, **(settings or {})}, logger=_QUIET)

    def _look(self) -> tuple[str, tuple[Partition, ...]]:
        """The cluster's id and the partitions of the source's topics."""
        from confluent_kafka import KafkaException

        end = time.monotonic() + _CONNECT_SECONDS
        while True:
            try:
                found = self._consumer.list_topics(timeout=2)
            except KafkaException as error:
                self._consumer.poll(0)
                self._admin.poll(0)
                said = self.said() or error.args[0]
                lasting = said.name() in ("_AUTHENTICATION", "_SSL", "_RESOLVE")
                if lasting or time.monotonic() > end:
                    self.refuse(said)
                continue
            break
        partitions = []
        for topic in self._source.topics:
            there = found.topics.get(topic)
            if there is None or there.error is not None:
                self._is_not_there(topic, found.topics, there and there.error)
            partitions += [(topic, number) for number in sorted(there.partitions)]
        return found.cluster_id or "", tuple(partitions)

    def _is_not_there(self, topic: str, known: Iterable[str], error: KafkaError | None) -> NoReturn:
        if error is not None and error.name() == "TOPIC_AUTHORIZATION_FAILED":
            self.refuse(error)
        names = sorted(name for name in known if not name.startswith("__"))
        close = nearest(topic, names)
        raise SourceError(
            f"{self._source.address}: there is no topic {topic!r}, or the user may not see it.",
            seen=f"the cluster has {listed(names)}" if names else "the cluster shows no topic",
            where="source.topics",
            close=close and repr(close),
            fix="correct the name",
        )

    def _topic_ids(self) -> dict[str, str]:
        from confluent_kafka import KafkaException, TopicCollection

        asked = self._admin.describe_topics(TopicCollection(list(self._source.topics)))
        ids = {}
        for topic, answer in asked.items():
            try:
                ids[topic] = str(answer.result(_ASK_SECONDS).topic_id)
            except KafkaException:  # an older broker: names have to do
                continue
        return {topic: text for topic, text in ids.items() if text.strip("A=")}

    def _offsets(
        self, partitions: Iterable[Partition], which: str, *arguments: int
    ) -> dict[Partition, int]:
        from confluent_kafka import IsolationLevel, KafkaException, TopicPartition, admin

        spec = getattr(admin.OffsetSpec, which)(*arguments)  # type: ignore[attr-defined]
        asked = {TopicPartition(*where): spec for where in partitions}
        backoff = Backoff(_ASK_SECONDS)
        while asked:
            answers = self._admin.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_ASK_SECONDS
            )
            try:
                return {
                    (where.topic, where.partition): answer.result(_ASK_SECONDS).offset
                    for where, answer in answers.items()
                }
            except KafkaException as error:
                if error.args[0].name() not in HEALS:
                    self.refuse(error.args[0])
                try:
                    backoff.wait(error)
                except KafkaException:
                    self.refuse(error.args[0])
        return {}


def _settings(source: KafkaSource, base: Path) -> dict[str, Any]:
    """Librdkafka's settings for reaching a cluster."""
    settings: dict[str, Any] = {
        "bootstrap.servers": ",".join(source.bootstrap_servers),
        "client.id": "etl_ml",
        "check.crcs": True,
        "socket.keepalive.enable": True,
    }
    security = source.security
    if security is None:
        return settings
    settings["security.protocol"] = security.protocol
    if security.protocol.startswith("SASL"):
        settings["sasl.mechanism"] = security.mechanism
    if security.user is not None and security.password is not None:
        settings["sasl.username"] = security.user
        settings["sasl.password"] = security.password.get_secret_value()
    key = security.key.get_secret_value() if security.key else None
    for name, value in (("ca", security.ca), ("certificate", security.certificate), ("key", key)):
        if value is not None:
            settings |= _pem(name, value, base)
    if security.key_password is not None:
        settings["ssl.key.password"] = security.key_password.get_secret_value()
    return settings | {name: value.get_secret_value() for name, value in security.options.items()}


def _pem(name: str, value: str, base: Path) -> dict[str, str]:
    """The setting for PEM text, or for the path of a file that has it."""
    if value.lstrip().startswith("-----BEGIN"):
        return {f"ssl.{name}.pem": value}
    path = base / value
    if not path.is_file():
        # A key that was not recognised as one is not shown.
        shown = None if name == "key" else bounded(value)
        raise SourceError(
            f"source.security.{name}: there is no such file.",
            seen=shown,
            where=f"source.security.{name}",
            fix="give the path of a PEM file, from defs.yaml's folder on, or the PEM text itself",
        )
    return {f"ssl.{name}.location": str(path)}
