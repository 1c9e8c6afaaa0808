"""`source:` streams: Kafka's topics and Kinesis' streams, which have no end."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from etl_ml.spec.error import listed
from etl_ml.spec.section import Section
from etl_ml.spec.source_section import Incremental, SourceSection, public

TOMBSTONE = "null"
"""`_etl_ml_original` of a message without a value: the one JSON that no other original is."""

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"


class Stream(SourceSection):
    """Messages that keep coming: a run reads what is new, in a batch of bounded size."""

    start: str = Field(
        "earliest",
        description="Where the first run begins: earliest, latest, or a moment, by default in UTC.",
    )
    max_rows: int = Field(
        1_000_000, ge=1, le=100_000_000, description="Messages that a run reads at most, or nearly."
    )
    max_seconds: float = Field(
        60, gt=0, le=86_400, description="After this long a run commits what it has read."
    )

    @model_validator(mode="before")
    @classmethod
    def _is_always_incremental(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("incremental") is not None:
            raise ValueError(
                "a stream is always read incrementally, by its own offsets; leave out `incremental`"
            )
        return given

    @field_validator("start", mode="before")
    @classmethod
    def _is_a_place(cls, start: Any) -> Any:
        text = start.isoformat() if isinstance(start, date) else start
        if isinstance(text, str) and text not in ("earliest", "latest"):
            try:
                datetime.fromisoformat(text)
            except ValueError:
                raise ValueError(
                    "should be earliest, latest, or a moment such as 2026-01-31T00:00:00Z"
                ) from None
        return text

    @property
    def start_at(self) -> datetime | None:
        """The moment (UTC) that `start` names, None where it names an end."""
        if self.start in ("earliest", "latest"):
            return None
        moment = datetime.fromisoformat(self.start)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    @property
    def incremental(self) -> Incremental:
        """A stream cannot be read in another way."""
        return Incremental()


class SchemaRegistry(Section):
    """A registry that speaks Confluent's REST interface."""

    url: str = Field(
        pattern=r"^https?://[^\s@]+$",
        examples=["https://registry.example:8081"],
        description="Without user and password.",
    )
    user: str | None = Field(None, description="Goes with password.")
    password: SecretStr | None = Field(None, description="Goes with user.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user goes with password; give both or none")
        return self


class KafkaSecurity(Section):
    """How brokers are talked to. A certificate or key is PEM text, or the path of a PEM file."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        description="Whether connections are encrypted (SSL), and whether a user is named (SASL)."
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "PLAIN", description="How the user is proved, with SASL."
    )
    user: str | None = Field(None, description="Goes with password.")
    password: SecretStr | None = Field(None, description="Goes with user.")
    ca: str | None = Field(None, description="Whom to trust; by default the system's authorities.")
    certificate: str | None = Field(None, description="The client's own, for mutual TLS.")
    key: SecretStr | None = Field(None, description="The certificate's private key.")
    key_password: SecretStr | None = Field(
        None, description="Of the private key, if it is encrypted."
    )
    options: dict[Annotated[str, Field(pattern=r"^(sasl|ssl|https)\.")], SecretStr] = Field(
        {},
        examples=["ssl.cipher.suites"],
        description="More of librdkafka's settings: sasl.…, ssl.…, https.…",
    )

    @field_validator("protocol", "mechanism", mode="before")
    @classmethod
    def _in_capitals(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        sasl = self.protocol.startswith("SASL")
        if (self.user is None) != (self.password is None):
            raise ValueError("user goes with password; give both or none")
        if self.user is not None and not sasl:
            raise ValueError(f"user: {self.protocol} asks for none; set protocol: SASL_SSL")
        if sasl and self.mechanism != "OAUTHBEARER" and self.user is None:
            raise ValueError(f"mechanism {self.mechanism} needs user and password")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate goes with key; give both or none")
        return self


class KafkaSource(Stream):
    """Topics of one Kafka cluster."""

    type: Literal["kafka"]
    bootstrap_servers: tuple[str, ...] = Field(
        min_length=1, description="host:port of one or more brokers: a list, or text with commas."
    )
    topics: tuple[Annotated[str, Field(pattern=_TOPIC)], ...] = Field(
        min_length=1, examples=["orders"], description="All of one contract."
    )
    group: str | None = Field(
        None,
        min_length=1,
        description="A consumer group that is told how far the lake is, so that its lag can be "
        "watched. Reading never depends on it.",
    )
    format: Literal["json", "avro"] = Field("json", description="How a message is written.")
    schema_registry: SchemaRegistry | None = Field(None, description="Needed for avro.")
    security: KafkaSecurity | None = Field(
        None, description="By default plain text, for a broker that asks for no more."
    )

    implied: ClassVar[tuple[str, ...]] = ("_topic", "_partition", "_offset", "_timestamp", "_key")
    identity: ClassVar[tuple[str, ...]] = ("_topic", "_partition", "_offset")

    @field_validator("bootstrap_servers", "topics", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_servers(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            if not _SERVER.fullmatch(server):
                raise ValueError("should be host:port, without a scheme, user or path")
        return servers

    @field_validator("topics")
    @classmethod
    def _are_different(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(topics)) < len(topics):
            raise ValueError("names a topic twice")
        return topics

    @model_validator(mode="after")
    def _can_be_decoded(self) -> Self:
        if self.format == "avro" and self.schema_registry is None:
            raise ValueError("format: avro needs schema_registry, where the schemas are")
        return self

    @property
    def address(self) -> str:
        return f"kafka://{self.bootstrap_servers[0]}/{listed(self.topics, 3)}"


class KinesisSource(Stream):
    """A Kinesis data stream of JSON records."""

    type: Literal["kinesis"]
    stream: str = Field(min_length=1, description="Its name or ARN.")
    region: str | None = Field(None, description="By default the provider's chain.")
    endpoint: str | None = Field(None, description="For what is compatible with Kinesis.")
    resource: str | None = Field(
        None, description="Key of the Dagster resource whose credentials are used."
    )

    implied: ClassVar[tuple[str, ...]] = ("_shard", "_sequence", "_timestamp", "_key")
    identity: ClassVar[tuple[str, ...]] = ("_shard", "_sequence")

    @property
    def format(self) -> Literal["json"]:
        """Kinesis has no registry of schemas."""
        return "json"

    @property
    def address(self) -> str:
        name = self.stream.rpartition("/")[2]
        return f"{public(self.endpoint)}/{name}" if self.endpoint else f"kinesis://{name}"
