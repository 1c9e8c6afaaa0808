"""Batches of BSON as the server sends them.

pymongo's own raw batches make an object of every document to take the server's array apart: a third
of the time that a whole read takes. Here the array is cut at its documents' lengths.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.collection import Collection

_SIZES = {0x01: 8, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8}
_NAME = 64  # no field of a cursor has a longer one
_KNOWN = ["self", "response", "cursor_id", "codec_options", "user_fields", "legacy_response"]


def find_raw_batches(
    collection: Collection[dict[str, Any]], query: dict[str, Any], **options: Any
) -> Iterator[bytes]:
    """What `Collection.find_raw_batches` gives, for less."""
    from pymongo.cursor import RawBatchCursor

    # The method is pymongo's own business: with another signature its class is used as it is.
    if list(inspect.signature(RawBatchCursor._unpack_response).parameters) != _KNOWN:
        return iter(collection.find_raw_batches(query, **options))

    class Batches(RawBatchCursor[Any]):
        def _unpack_response(self, response: Any, *_: Any, **__: Any) -> list[Any]:
            return [_reply(response.raw_command_response())]

    return iter(Batches(collection, query, **options))


def _reply(payload: bytes | memoryview) -> dict[str, Any]:
    """A command's reply, in which a batch is one stream of documents."""
    import bson
    from bson.raw_bson import RawBSONDocument

    reply: dict[str, Any] = dict(RawBSONDocument(payload))
    for name, value in reply.items():
        if isinstance(value, RawBSONDocument):
            part = memoryview(value.raw)
            reply[name] = _cursor(part) if name == "cursor" else bson.decode(part)
    return reply


def _cursor(data: memoryview) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at = 4
    while (kind := data[at]) != 0:
        name = bytes(data[at + 1 : at + _NAME]).partition(b"\x00")[0].decode()
        at += len(name) + 2
        if kind in _SIZES:
            size = _SIZES[kind]
        else:
            size = struct.unpack_from("<i", data, at)[0]
            size += {0x02: 4, 0x05: 5}.get(kind, 0)
        if name in ("firstBatch", "nextBatch"):
            stream = _stream(data, at, at + size)
            found[name] = [stream] if stream else []
        elif kind == 0x12:
            found[name] = struct.unpack_from("<q", data, at)[0]
        elif kind == 0x02:
            found[name] = bytes(data[at + 4 : at + size - 1]).decode()
        at += size
    return found


def _stream(data: memoryview, start: int, end: int) -> bytes:
    """The documents of a BSON array, one after the other."""
    parts = []
    at, place, size_at = start + 4, 0, struct.Struct("<i").unpack_from
    limit, digits = 10, 1
    while at < end - 1:
        # Type, the place as digits, a zero; then the document.
        at += digits + 2
        size = size_at(data, at)[0]
        parts.append(data[at : at + size])
        at += size
        place += 1
        if place == limit:
            limit, digits = limit * 10, digits + 1
    return b"".join(parts)
