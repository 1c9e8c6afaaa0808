"""Attacks on a running service: short refusals, flat memory, and others are served meanwhile."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl_ml_tests.project import loans
from etl_ml_tests.serve.serving import Serving, serving

GOOD = {"age": 30, "income": 1e4, "country": "DE", "opened": "2001-05-06"}
MANY = json.loads(
    loans(5_000).drop("defaulted").with_columns(pl.col("opened").cast(pl.String)).write_json()
)
MB = 1 << 20


def head(length: int | None, *lines: str) -> bytes:
    sized = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    text = "\r\n".join(["POST /invocations HTTP/1.1", "host: x", sized, *lines])
    return f"{text}\r\ncontent-type: application/json\r\n\r\n".encode()


def read_status(connection: socket.socket) -> int:
    """The status of an answer, whose rest is not read."""
    data = b""
    while b"\r\n" not in data:
        if not (more := connection.recv(4096)):
            raise ConnectionError(f"closed after {data!r}")
        data += more
    return int(data.split()[1])


@contextmanager
def others(service: Serving) -> Iterator[list[tuple[int, float]]]:
    """Another client asks all the while: the status and the seconds of each of its requests."""
    seen: list[tuple[int, float]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            start = time.perf_counter()
            status = service.post([GOOD]).status
            seen.append((status, time.perf_counter() - start))
            time.sleep(0.005)

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield seen
    finally:
        over.set()
        client.join()


@pytest.fixture(scope="module")
def attacked(loans_lake: Path) -> Iterator[Serving]:
    with serving(loans_lake, "loans", "--max-seconds", "3") as running:
        running.post(MANY)  # what is imported at the first large request is there
        yield running


BODIES: dict[str, Any] = {
    "100 MB": b'{"rows": [' + b" " * (100 * MB),
    "10 M brackets": b"[" * 10_000_000,
    "6 MB of brackets": b"[" * (6 * MB - 1),
    "6 MB of empty lists": b"[" + b"[]," * (2 * MB - 10) + b"[]]",
    "6 MB of empty records": b"[" + b"{}," * (2 * MB - 10) + b"{}]",
    "6 MB of numbers": b"[" + b"1," * (3 * MB - 10) + b"1]",
    "6 MB of columns": b"{%s}" % b",".join(b'"c%07d":[1]' % n for n in range(400_000)),
    "6 MB of one text": b'[{"age": "' + b"9" * (6 * MB - 20) + b'"}]',
    "a number of 1 MB": b'[{"age": ' + b"9" * MB + b"}]",
    "a column's name of 1 MB": b'[{"%s": 1}]' % (b"a" * MB),
    "a deep object": b'{"rows": ' * 200_000,
}


@pytest.mark.parametrize("attack", BODIES)
def test_an_attack_is_refused_shortly_and_leaves_no_memory_behind(
    attacked: Serving, attack: str
) -> None:
    body = BODIES[attack]
    attacked.post(body)
    before = attacked.memory
    with others(attacked) as seen:
        for _ in range(4):
            reply = attacked.post(body)
            assert 400 <= reply.status < 500
            assert len(reply.body) < 600
        while len(seen) < 3:
            time.sleep(0.01)
    assert {status for status, _ in seen} == {200}
    assert attacked.memory - before < 48 * MB


def test_a_body_that_is_too_large_is_refused_before_it_has_come(attacked: Serving) -> None:
    with attacked.connect() as connection:
        connection.sendall(head(100 * MB))
        assert read_status(connection) == 413


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(attacked: Serving) -> None:
    chunk = b"%x\r\n%s\r\n" % (MB, b" " * MB)
    before = attacked.memory
    with attacked.connect() as connection:
        connection.sendall(head(None))
        for _ in range(7):
            connection.sendall(chunk)
        assert read_status(connection) == 413
    assert attacked.memory - before < 32 * MB


def test_a_refused_client_that_goes_on_writing_still_reads_why(attacked: Serving) -> None:
    with attacked.connect() as connection:
        connection.sendall(head(30 * MB))
        for _ in range(30):
            connection.sendall(b" " * MB)
        assert read_status(connection) == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "99999999999999999999999", "abc"])
def test_a_length_that_is_none_is_refused(attacked: Serving, length: str) -> None:
    with attacked.connect() as connection:
        connection.sendall(head(0).replace(b"length: 0", f"length: {length}".encode()))
        assert read_status(connection) in (400, 413)


def test_both_a_length_and_chunks_are_refused(attacked: Serving) -> None:
    """What proxies and servers read differently smuggles requests."""
    with attacked.connect() as connection:
        connection.sendall(head(5, "transfer-encoding: chunked") + b"0\r\n\r\n")
        assert read_status(connection) == 400


def test_a_body_that_comes_slowly_is_given_up(attacked: Serving) -> None:
    with others(attacked) as seen, attacked.connect() as connection:
        connection.sendall(head(1_000))
        start = time.perf_counter()
        connection.settimeout(0.1)
        status = 0
        while not status and time.perf_counter() - start < 20:
            connection.sendall(b" ")
            with suppress(TimeoutError):
                status = read_status(connection)
        assert status == 408
    assert {status for status, _ in seen} == {200}


def test_headers_that_come_slowly_are_given_up(loans_lake: Path) -> None:
    with serving(loans_lake, "loans", "--max-seconds", "1") as service:
        connections = [service.connect() for _ in range(20)]
        for connection in connections[1:]:  # and one says nothing at all
            connection.sendall(b"POST /invocations HTTP/1.1\r\nx-slow: ")
        assert [read_status(connection) for connection in connections] == [408] * 20
        for connection in connections:
            connection.close()


def test_headers_without_end_are_refused(attacked: Serving) -> None:
    before = attacked.memory
    with attacked.connect() as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\n")
        with suppress(ConnectionError):  # closed while it writes
            for _ in range(2_000):
                connection.sendall(b"x-more: " + b"a" * 10_000 + b"\r\n")
            assert read_status(connection) == 431
    assert attacked.memory - before < 16 * MB
    assert attacked.post([GOOD]).status == 200


def test_a_hundred_slow_clients_hold_no_memory_and_nobody_up(attacked: Serving) -> None:
    connections = [attacked.connect() for _ in range(100)]
    before = attacked.memory
    for connection in connections:
        connection.sendall(head(5 * MB) + b" " * (50 << 10))
    with others(attacked) as seen:
        while len(seen) < 20:
            time.sleep(0.01)
    assert {status for status, _ in seen} == {200}
    assert attacked.memory - before < 64 * MB
    for connection in connections:
        connection.close()


def test_large_bodies_at_once_are_put_off_before_they_fill_memory(loans_lake: Path) -> None:
    with serving(loans_lake, "loans", "--max-body-bytes", str(MB)) as service:
        connections = [service.connect() for _ in range(40)]
        for connection in connections:
            connection.sendall(head(MB) + b" " * (MB - 1))
        time.sleep(2)
        statuses = []
        for connection in connections:
            connection.settimeout(0.01)
            try:
                statuses.append(read_status(connection))
            except TimeoutError:
                statuses.append(0)  # still waited for
        assert set(statuses) == {0, 503}
        assert statuses.count(0) <= 17
        for connection in connections:
            connection.close()
        assert service.post([GOOD]).status == 200


def test_more_requests_than_are_worked_on_at_once_are_put_off(loans_lake: Path) -> None:
    arguments = ("--max-concurrency", "2", "--threads", "1", "--max-rows", "100000")
    body = json.dumps(MANY).encode()
    with serving(loans_lake, "loans", *arguments) as service:
        service.post(MANY)
        replies: list[Any] = []

        def ask() -> None:
            reply = service.ask("POST", "/invocations", body, {"content-type": "application/json"})
            replies.append(reply)

        for _ in range(10):
            clients = [threading.Thread(target=ask) for _ in range(12)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            if any(reply.status == 503 for reply in replies):
                break
        assert {reply.status for reply in replies} == {200, 503}
        put_off = next(reply for reply in replies if reply.status == 503)
        assert put_off.headers["retry-after"] == "1"
        assert service.get("/ping").status == 200
        assert service.metric("etl_ml_serve_refused_total", reason="busy") > 0
        assert service.metric("etl_ml_serve_in_progress") == 0
        assert service.metric("etl_ml_serve_queue") == 0


def test_an_answer_that_takes_too_long_is_given_up(loans_lake: Path) -> None:
    arguments = ("--max-seconds", "0.05", "--max-body-bytes", str(64 * MB), "--threads", "1")
    rows = {name: [cell] * 400_000 for name, cell in GOOD.items()}
    with serving(loans_lake, "loans", *arguments, "--max-rows", "1000000") as service:
        reply = service.post(rows)
        assert reply.status in (408, 503)
        assert service.post([GOOD]).status in (200, 503)


def test_a_client_that_goes_away_leaves_nothing_behind(attacked: Serving) -> None:
    body = json.dumps(MANY).encode()
    for _ in range(20):
        with attacked.connect() as connection:
            connection.sendall(head(len(body)) + body[: len(body) // 2])
        with attacked.connect() as connection:
            connection.sendall(head(len(body)) + body)
    while attacked.metric("etl_ml_serve_in_progress"):
        time.sleep(0.1)
    assert attacked.post([GOOD]).status == 200


@pytest.mark.parametrize(
    "junk",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100, b"SSH-2.0-x\r\n"],
    ids=str,
)
def test_what_is_no_http_is_closed(attacked: Serving, junk: bytes) -> None:
    with attacked.connect() as connection:
        connection.sendall(junk)
        assert read_status(connection) == 400


def test_a_path_of_the_file_system_is_no_route(attacked: Serving) -> None:
    for path in (
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/v2/models/../x",
    ):
        assert attacked.get(path).status == 404
