"""uvicorn's HTTP protocol, with an end to headers that come slowly or without end."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_BYTES = 64 << 10
_REFUSAL = (
    b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n%s"
)


class BoundedProtocol(HttpToolsProtocol):
    """A connection is closed if a request's headers are not there in time, or too large.

    uvicorn bounds neither, and counts idle time from the first answer on only.
    """

    seconds = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: asyncio.TimerHandle | None = None
        self._in_headers = True
        self._bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._bytes += len(data)
            if self._waiting is None:
                self._wait()
        super().data_received(data)
        if self._in_headers and self._bytes > _MOST_BYTES:
            self._close(b"431 Request Header Fields Too Large", b"the headers are too large.")

    def on_headers_complete(self) -> None:
        self._in_headers, self._bytes = False, 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_headers = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        self._close(b"408 Request Timeout", b"the headers did not arrive in time.")

    def _close(self, status: bytes, why: bytes) -> None:
        if not self.transport.is_closing():
            body = b'{"error":"%s"}' % why
            self.transport.write(_REFUSAL % (status, len(body), body))
            self.transport.close()
