"""Avro in the frame of a schema registry: a zero, the schema's number in 4 bytes, the record."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

from etl_ml.extract.source_error import SourceError, SourceUnavailable
from etl_ml.spec.error import bounded
from etl_ml.spec.source import public
from etl_ml.spec.stream import KafkaSource

_FRAME = struct.Struct(">bI")
_UNKNOWN = 40403  # the registry's own code: there is no such schema
_SECONDS = 30
_NOT_OF_SCHEMA = (ArithmeticError, EOFError, LookupError, MemoryError, TypeError, struct.error)


class AvroValues:
    """Records, each read with the schema that it was written with.

    A record whose schema the registry does not know is no value of this format; a registry that
    does not answer ends the read.

    Raises
    ------
    SourceError
        Packages are missing.
    """

    exact = True

    def __init__(self, source: KafkaSource) -> None:
        try:
            import fastavro  # noqa: F401
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ModuleNotFoundError:
            raise SourceError(
                "Avro needs packages that are not installed.",
                where="source.format",
                fix="pip install 'etl_ml[kafka]'",
            ) from None
        registry = source.schema_registry
        if registry is None:
            raise ValueError("avro needs a schema registry")
        settings: dict[str, Any] = {"url": registry.url, "timeout": _SECONDS}
        if registry.user is not None and registry.password is not None:
            secret = registry.password.get_secret_value()
            settings["basic.auth.user.info"] = f"{registry.user}:{secret}"
        self._address = public(registry.url)
        self._client = SchemaRegistryClient(settings)
        self._readers: dict[int, Callable[[io.BytesIO], Any] | None] = {}

    def rows(self, values: Sequence[bytes | None]) -> list[Any]:
        rows: list[Any] = []
        for value in values:
            try:
                rows.append(None if value is None else self.again(value))
            except ValueError:
                rows.append(None)
        return rows

    def again(self, value: bytes) -> Any:
        """A record.

        Raises
        ------
        ValueError
            It is none, or its schema is not known.
        """
        if len(value) < _FRAME.size:
            raise ValueError("it is too short")
        zero, number = _FRAME.unpack_from(value)
        if zero != 0:
            raise ValueError("it has no schema's number")
        if number not in self._readers:
            self._readers[number] = self._reader(number)
        read = self._readers[number]
        if read is None:
            raise ValueError("its schema is not known")
        stream = io.BytesIO(value)
        stream.seek(_FRAME.size)
        try:
            row = read(stream)
        except (
            ArithmeticError,
            EOFError,
            LookupError,
            MemoryError,
            TypeError,
            struct.error,
        ) as error:
            raise ValueError(f"it is not of its schema: {error}") from None
        if stream.tell() != len(value):
            raise ValueError("it does not end where its schema does")
        return row

    def _reader(self, number: int) -> Callable[[io.BytesIO], Any] | None:
        """What reads records of a schema; None where it is not known, or no schema of Avro's."""
        from fastavro import parse_schema, schemaless_reader
        from fastavro.schema import SchemaParseException, UnknownType

        found = self._ask(lambda: self._client.get_schema(number))
        if found is None or (found.schema_type or "AVRO") != "AVRO":
            return None
        named: dict[str, Any] = {}
        try:
            self._learn(found.references or [], named)
            schema = parse_schema(json.loads(found.schema_str), named_schemas=named)
        except (SchemaParseException, UnknownType, ValueError):
            return None
        return lambda stream: schemaless_reader(stream, schema, None)

    def _learn(self, references: Any, named: dict[str, Any]) -> None:
        """Parse the schemas that a schema refers to, those that they refer to first."""
        from fastavro import parse_schema

        for reference in references:
            if reference.name in named:
                continue
            found = self._ask(
                lambda r=reference: self._client.get_version(r.subject, r.version)  # type: ignore[misc]
            )
            if found is not None:
                self._learn(found.schema.references or [], named)
                parse_schema(json.loads(found.schema.schema_str), named_schemas=named)

    def _ask(self, ask: Callable[[], Any]) -> Any:
        """The registry's answer, None where it has no such schema; what heals is asked again."""
        import httpx2
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        where, fix = "source.schema_registry", "correct source.schema_registry"
        kind: type[SourceError] = SourceError
        try:
            return ask()
        except SchemaRegistryError as error:
            if error.http_status_code == 404 or error.error_code == _UNKNOWN:
                return None
            seen = bounded(f"{error.http_status_code}: {error.error_message}", 160)
            if error.http_status_code in (401, 403):
                fix = "correct source.schema_registry.user and password"
        except httpx2.TransportError as error:
            kind = SourceUnavailable
            seen, fix = bounded(str(error), 160), "correct source.schema_registry.url, or start it"
        raise kind(
            f"{self._address}: the schema registry does not give a schema.",
            seen=seen,
            where=where,
            fix=fix,
        )
