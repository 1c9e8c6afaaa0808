"""A proxy in front of a real MongoDB server, which breaks what a test asks it to break."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import bson

WireFault = Literal["reset", "lost", "expired"] | float | None
"""`lost`: the command arrives, its answer does not. A number: seconds without an answer."""

_MESSAGE = 2013
_EXPIRED = {"ok": 0.0, "code": 391, "codeName": "ReauthenticationRequired", "errmsg": "expired"}


class WireProxy:
    """Forwards to a port of 127.0.0.1; `fault` says what becomes of each command.

    The driver's own `hello` is left alone. `commands` has the names of all others that came.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.fault: Callable[[str, dict[str, Any]], WireFault] = lambda name, command: None
        self.commands: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as to:
            while message := _message(client):
                fault = self._asked(message)
                if isinstance(fault, float):
                    time.sleep(fault)
                if fault == "reset":
                    break
                if fault == "expired":
                    client.sendall(_answer(message, _EXPIRED))
                    continue
                to.sendall(message)
                answer = _message(to)
                if fault == "lost" or answer is None:
                    break
                client.sendall(answer)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _asked(self, message: bytes) -> WireFault:
        (kind,) = struct.unpack("<i", message[12:16])
        if kind != _MESSAGE:
            return None
        command = _command(message[20:])
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster", "ping"):
            return None
        self.commands.append(name)
        return self.fault(name, command)


def _command(sections: bytes) -> dict[str, Any]:
    """A command with the documents that are sent beside it."""
    command: dict[str, Any] = {}
    while len(sections) > 4:  # a checksum may follow
        (size,) = struct.unpack("<i", sections[1:5])
        body, is_list = sections[1 : 1 + size], sections[0] == 1
        if is_list:
            name, _, documents = body[4:].partition(b"\0")
            command[name.decode()] = bson.decode_all(documents)
        else:
            command = bson.decode(body) | command
        sections = sections[1 + size :]
    return command


def _answer(message: bytes, document: dict[str, Any]) -> bytes:
    """A message that answers another one."""
    body = bytes(5) + bson.encode(document)
    (request,) = struct.unpack("<i", message[4:8])
    return struct.pack("<iiii", 16 + len(body), 0, request, _MESSAGE) + body


def _message(stream: socket.socket) -> bytes | None:
    """One whole message of the wire protocol, None at its end."""
    head = _exactly(stream, 4)
    if head is None:
        return None
    rest = _exactly(stream, struct.unpack("<i", head)[0] - 4)
    return None if rest is None else head + rest


def _exactly(stream: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)
