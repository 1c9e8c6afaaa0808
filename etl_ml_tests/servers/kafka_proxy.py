"""A proxy before Kafka: with TLS, with users of its own, and with connections that break."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from contextlib import suppress
from pathlib import Path

_LARGE = 100_000
_AUTHENTICATE, _REFUSED = 36, 58  # the protocol's number of SaslAuthenticate, and of its refusal


class KafkaProxy:
    """Forwards to a broker on 127.0.0.1 and tells clients that the broker is here.

    Parameters
    ----------
    users : passwords by name; None lets everybody in
    certificate : PEM file of certificate and key, for TLS
    cuts : how many times a connection breaks, each in the middle of an answer of 100 kB or more
    """

    def __init__(
        self,
        port: int,
        *,
        users: dict[str, str] | None = None,
        certificate: Path | None = None,
        cuts: int = 0,
    ) -> None:
        self._broker, self._users, self.cuts = port, users, cuts
        self.connections = 0
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            self.connections += 1
            broker = socket.create_connection(("127.0.0.1", self._broker))
            answers = threading.Thread(target=self._answers, args=(broker, client), daemon=True)
            answers.start()
            with broker, client, suppress(OSError, EOFError):
                while True:
                    frame = _frame(client)
                    if not self._let_in(frame, client):
                        return
                    broker.sendall(frame)

    def _answers(self, broker: socket.socket, client: socket.socket) -> None:
        here = b"127.0.0.1" + struct.pack(">i", self.port)
        there = b"127.0.0.1" + struct.pack(">i", self._broker)
        with suppress(OSError, EOFError):
            while True:
                frame = _frame(broker).replace(there, here)
                if self.cuts and len(frame) > _LARGE:
                    self.cuts -= 1
                    client.sendall(frame[: len(frame) // 2])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(frame)

    def _let_in(self, frame: bytes, client: socket.socket) -> bool:
        kind, version, correlation = struct.unpack_from(">hhi", frame, 4)
        if kind != _AUTHENTICATE or self._users is None:
            return True
        _, user, password = frame[frame.index(b"\0", 20) :].split(b"\0")[-3:]
        if self._users.get(user.decode()) == password.decode():
            return True
        message = b"Authentication failed"
        body = struct.pack(">ih", correlation, _REFUSED)
        body += struct.pack(">h", len(message)) + message + struct.pack(">i", 0)
        body += struct.pack(">q", 0) if version else b""
        client.sendall(struct.pack(">i", len(body)) + body)
        return False


def _frame(source: socket.socket) -> bytes:
    size = _exactly(source, 4)
    return size + _exactly(source, struct.unpack(">i", size)[0])


def _exactly(source: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = source.recv(size - len(found))
        if not part:
            raise EOFError
        found += part
    return found
