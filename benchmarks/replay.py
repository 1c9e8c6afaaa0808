"""A MongoDB server that answers `find` with documents made beforehand.

    python benchmarks/replay.py DOCUMENTS

It prints its port. The client under measurement talks to it over a real connection; this process
only copies bytes, so that the client's CPU time is not the server's.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import numpy as np

BATCH = 10_000
DISTINCT = 20
NAMESPACE = "bench.loans"


def document(rng: random.Random) -> dict[str, Any]:
    """31 fields: ids, numbers, texts, dates and booleans."""
    fields: dict[str, Any] = {"_id": bson.ObjectId()}
    fields |= {f"i{k}": rng.randrange(100_000) for k in range(10)}
    fields |= {f"f{k}": rng.random() for k in range(10)}
    fields |= {f"s{k}": rng.choice(["red", "green", "blue", "a longer text"]) for k in range(6)}
    start = datetime(2026, 1, 1, tzinfo=UTC)
    fields |= {f"d{k}": start + timedelta(seconds=rng.randrange(10**7)) for k in range(2)}
    fields |= {f"b{k}": rng.random() < 0.5 for k in range(2)}
    return fields


def batches(count: int) -> list[bytes]:
    """Arrays of documents as BSON; the ids differ, the rest repeats after 200,000."""
    rng = random.Random(0)
    made: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(min(DISTINCT, -(-count // BATCH))):
        documents = [bson.encode(document(rng)) for _ in range(BATCH)]
        parts, ids, at = [], [], 4
        for place, data in enumerate(documents):
            key = b"\x03%d\x00" % place
            ids.append(at + len(key) + 9)  # behind the size, the type and the name `_id`
            parts += [key, data]
            at += len(key) + len(data)
        body = b"".join(parts)
        array = struct.pack("<i", len(body) + 5) + body + b"\x00"
        made.append((np.frombuffer(array, np.uint8).copy(), np.array(ids)))
    result = []
    for number in range(count // BATCH):
        array, ids = made[number % len(made)]
        array[ids] = number // len(made)
        result.append(array.tobytes())
    return result


def answer(command: dict[str, Any], stored: list[bytes], place: list[int]) -> bytes:
    name = next(iter(command))
    if name.lower() in ("hello", "ismaster"):
        return bson.encode(
            {
                "ismaster": True,
                "isWritablePrimary": True,
                "maxBsonObjectSize": 16 * 2**20,
                "maxMessageSizeBytes": 48_000_000,
                "maxWriteBatchSize": 100_000,
                "localTime": datetime.now(UTC),
                "minWireVersion": 0,
                "maxWireVersion": 21,
                "readOnly": False,
                "ok": 1.0,
            }
        )
    if name in ("find", "getMore"):
        place[0] = 0 if name == "find" else place[0] + 1
        # The check that a client makes before it reads asks for one document.
        last = command.get("limit") == 1 or place[0] == len(stored) - 1
        field = b"firstBatch" if name == "find" else b"nextBatch"
        inner = (
            b"\x12id\x00"
            + struct.pack("<q", 0 if last else 1)
            + b"\x02ns\x00"
            + struct.pack("<i", len(NAMESPACE) + 1)
            + NAMESPACE.encode()
            + b"\x00\x04"
            + field
            + b"\x00"
            + (b"\x05\x00\x00\x00\x00" if command.get("limit") == 1 else stored[place[0]])
        )
        cursor = struct.pack("<i", len(inner) + 5) + inner + b"\x00"
        outer = b"\x03cursor\x00" + cursor + b"\x01ok\x00" + struct.pack("<d", 1.0)
        return struct.pack("<i", len(outer) + 5) + outer + b"\x00"
    if name == "listCollections":
        found = [{"name": "loans", "type": "collection", "options": {}}]
        return bson.encode({"cursor": {"id": 0, "ns": "bench", "firstBatch": found}, "ok": 1.0})
    if name == "count":
        return bson.encode({"n": len(stored) * BATCH, "ok": 1.0})
    return bson.encode({"ok": 1.0})


def received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def serve(connection: socket.socket, stored: list[bytes]) -> None:
    place = [0]
    try:
        while True:
            size, request, _, operation = struct.unpack("<iiii", received(connection, 16))
            body = received(connection, size - 16)
            if operation == 2004:  # OP_QUERY, which greets
                at = body.index(b"\x00", 4) + 9
                reply = struct.pack("<iqii", 8, 0, 0, 1) + answer(
                    bson.decode(body[at:]), stored, place
                )
                operation = 1
            else:
                end = 5 + struct.unpack_from("<i", body, 5)[0]
                reply = b"\x00" * 5 + answer(bson.decode(body[5:end]), stored, place)
            header = struct.pack("<iiii", len(reply) + 16, 0, request, operation)
            connection.sendall(header + reply)
    except OSError:
        connection.close()


def main() -> None:
    stored = batches(int(sys.argv[1]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, stored), daemon=True).start()


if __name__ == "__main__":
    main()
