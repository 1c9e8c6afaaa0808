"""A schema registry as Confluent's REST interface has it, over HTTP."""

from __future__ import annotations

import base64
import io
import json
import struct
from typing import Any

from fastavro import parse_schema, schemaless_writer

from etl_ml_tests.servers.http import Answer, Http, Request, as_json


class SchemaRegistry:
    """Schemas by number, and by subject and version.

    Parameters
    ----------
    user, password : asked for where they are given
    """

    def __init__(self, http: Http, *, user: str = "", password: str = "") -> None:
        self._http, self._secret = http, f"{user}:{password}" if user else ""
        self._count = 0
        self._parsed: dict[int, Any] = {}

    @property
    def url(self) -> str:
        return self._http.url

    @property
    def asked(self) -> int:
        """How many requests came."""
        return len(self._http.requests)

    def register(
        self,
        schema: Any,
        *,
        subject: str = "",
        references: list[dict[str, Any]] | None = None,
        named: dict[str, Any] | None = None,
    ) -> int:
        """Add a schema; `named` are those that it refers to, for `record`."""
        self._count += 1
        number, text = self._count, json.dumps(schema)
        self._parsed[number] = parse_schema(schema, named_schemas=dict(named or {}))
        document: dict[str, Any] = {"schema": text, "schemaType": "AVRO", "references": references}
        document = {key: value for key, value in document.items() if value}
        self._http.routes[f"/schemas/ids/{number}"] = self._route(document)
        if subject:
            document = {**document, "subject": subject, "version": 1, "id": number}
            self._http.routes[f"/subjects/{subject}/versions/1"] = self._route(document)
        return number

    def record(self, number: int, record: Any) -> bytes:
        """A record in the frame that its schema's number is sent in."""
        body = io.BytesIO()
        schemaless_writer(body, self._parsed[number], record)
        return struct.pack(">bI", 0, number) + body.getvalue()

    def _route(self, document: dict[str, Any]) -> Any:
        def answer(request: Request) -> Answer:
            wanted = f"Basic {base64.b64encode(self._secret.encode()).decode()}"
            if self._secret and request.headers.get("authorization") != wanted:
                return as_json({"error_code": 401, "message": "Unauthorized"}, 401)
            return as_json(document)

        return answer
