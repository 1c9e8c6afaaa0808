"""What stands before every route: the token, limits on size, time and number, and the metrics."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import orjson

from etl_ml.serve.refused import MEDIA_TYPE, TOO_LARGE, UNAUTHORIZED, UNAVAILABLE, Refused

if TYPE_CHECKING:
    from etl_ml.serve.metrics import Metrics
    from etl_ml.serve.settings import Settings

log = logging.getLogger("etl_ml.serve")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY = "etl_ml.body"
"""In the scope: a request's whole body, as bytes; None as long as it is not there."""
HEADERS = "etl_ml.headers"
"""In the scope: the request's headers by name in lower case, as bytes."""
OPEN = frozenset({"/ping", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"})
"""Routes of probes, which carry no token and are answered at any load."""

_LINGER_SECONDS = 5.0
_WITH_BODY = ("POST", "PUT", "PATCH")
_JSON = (b"content-type", b"application/json")


class _Gone(Exception):
    """The client has closed its connection."""


class Guard:
    """An ASGI application around another.

    Parameters
    ----------
    app : is given a scope with `BODY` and `HEADERS`; it need not receive anything
    route_of : from a path to what it is counted by
    """

    def __init__(
        self, app: App, settings: Settings, metrics: Metrics, route_of: Callable[[str], str]
    ) -> None:
        self._app, self._settings, self._metrics, self._route_of = app, settings, metrics, route_of
        token = settings.token
        self._token = None if token is None else b"Bearer " + token.get_secret_value().encode()
        self._working = self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start, route, status = time.perf_counter(), self._route_of(scope["path"]), 0

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope[HEADERS] = headers = dict(scope["headers"])
        scope[BODY] = None
        try:
            async with asyncio.timeout(self._settings.max_seconds):
                await self._answer(scope, headers, receive, sending)
        except Refused as refused:
            await self._refuse(refused, scope, receive, sending)
        except TimeoutError:
            if not status:
                await self._refuse(self._late(scope), scope, receive, sending)
        except _Gone:
            pass
        except Exception as error:
            # A mistake of ours: told in the log, where no value of a request belongs.
            frames = "".join(traceback.format_tb(error.__traceback__)[-6:])
            log.error("%s on %s\n%s", type(error).__name__, route, frames)
            if not status:
                await self._refuse(MISTAKE, scope, receive, sending)
        finally:
            self._metrics.requests.labels(route, str(status or "closed")).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - start)

    async def _answer(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        if scope["path"] in OPEN:
            return await self._app(scope, receive, send)
        if self._token is not None and not hmac.compare_digest(
            headers.get(b"authorization", b""), self._token
        ):
            raise _unauthorized()
        if scope["method"] not in _WITH_BODY:
            return await self._app(scope, receive, send)
        scope[BODY] = await self._body(headers, receive)
        if self._working >= self._settings.max_concurrency:
            raise _busy(f"{self._working} requests are being worked on.")
        self._working += 1
        self._metrics.in_progress.inc()
        try:
            await self._app(scope, receive, send)
        finally:
            self._working -= 1
            self._metrics.in_progress.dec()

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The whole body, in memory: it is refused before it is larger than it may be."""
        most = self._settings.max_body_bytes
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            raise _too_large(most)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refused(
                "the body is packed.",
                status=MEDIA_TYPE,
                reason="media_type",
                expected="a body without Content-Encoding",
            )
        message = await receive()
        if not message.get("more_body"):
            return _checked(message, most)
        chunks, size = [], 0
        try:
            while True:
                chunk = _checked(message, most - size)
                chunks.append(chunk)
                size += len(chunk)
                self._buffered += len(chunk)
                if self._buffered > self._settings.max_buffered_bytes:
                    raise _busy("many large requests are coming in.")
                if not message.get("more_body"):
                    return b"".join(chunks)
                message = await receive()
        finally:
            self._buffered -= size

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.refused.labels(refused.reason).inc()
        await _respond(refused, send, receive if scope[BODY] is None else None)

    def _late(self, scope: Scope) -> Refused:
        seconds = self._settings.max_seconds
        if scope["method"] in _WITH_BODY and scope[BODY] is None:
            return Refused(
                f"the request did not arrive within {seconds:g} seconds.",
                status=408,
                reason="slow_client",
            )
        return Refused(
            f"the answer was not there within {seconds:g} seconds.",
            status=UNAVAILABLE,
            reason="timeout",
            expected="fewer rows a request",
        )


MISTAKE = Refused("the service failed; its log says where.", status=500, reason="failed")


def headers_of(refused: Refused) -> dict[str, str]:
    """Beside the body, what a client goes by."""
    if refused.status == UNAVAILABLE:
        return {"retry-after": "1"}
    return {"www-authenticate": "Bearer"} if refused.status == UNAUTHORIZED else {}


async def _respond(refused: Refused, send: Send, receive: Receive | None) -> None:
    """Answer with what was refused and why.

    Parameters
    ----------
    receive : of a request whose body may still be coming; it is read and thrown away for a while,
        since a client that is cut off while it writes never reads why
    """
    body = orjson.dumps(refused.document())
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in headers_of(refused).items()]
    if receive is not None:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": receive is not None})
    if receive is not None:
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while (await receive()).get("more_body"):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


def _checked(message: Mapping[str, Any], most: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise _Gone
    chunk: bytes = message.get("body", b"")
    if len(chunk) > most:
        raise _too_large(most)
    return chunk


def _too_large(most: int) -> Refused:
    return Refused(
        "the body is larger than is read.",
        status=TOO_LARGE,
        reason="too_large",
        expected=f"up to {most:,} bytes",
    )


def _unauthorized() -> Refused:
    return Refused(
        "the token is missing or wrong.",
        status=UNAUTHORIZED,
        reason="unauthorized",
        expected="Authorization: Bearer and the token",
    )


def _busy(why: str) -> Refused:
    return Refused(why, status=UNAVAILABLE, reason="busy", expected="the same again in a moment")
