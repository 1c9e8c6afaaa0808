"""A reverse proxy in front of a real server, which breaks what a test asks it to break."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from etl_ml_tests.servers.http import Answer, Request

Fault = Literal["500", "503", "reset", "lost", "expired"] | float | None
"""`lost`: the request arrives, its answer does not. A number: seconds without an answer."""

_EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"


class Proxy:
    """Forwards to a port of 127.0.0.1; `fault` says what becomes of each request.

    `own` may answer in the server's place. `requests` has method and path of all that came, the
    broken ones included.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.fault: Callable[[str, str], Fault] = lambda method, path: None
        self.own: Callable[[Request], Answer | None] = lambda request: None
        self.requests: list[tuple[str, str]] = []
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Proxy

    def _any(self) -> None:
        fault = self.owner.fault(self.command, self.path)
        self.owner.requests.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if isinstance(fault, float):
            time.sleep(fault)
        elif fault == "reset":
            self._reset()
            return
        elif fault in ("500", "503"):
            self._answer(int(fault), [], b"")
            return
        elif fault == "expired":
            self._answer(400, [("Content-Type", "application/xml")], _EXPIRED)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        own = self.owner.own(Request(self.command, self.path, {}, headers, body))
        if own is not None and fault != "lost":
            self._answer(own[0], list(own[1].items()), own[2])
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.target, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # the host too: it is signed
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault == "lost":
            self._reset()
            return
        self._answer(answer.status, answer.getheaders(), content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
            if name.lower() == "content-length" and self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):
            return  # the connection was reset, by us or by the client

    def log_message(self, *arguments: object) -> None:
        return
