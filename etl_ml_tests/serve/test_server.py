"""The command: what it says, what it refuses, tokens, processes, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl_ml_tests.project import loans
from etl_ml_tests.serve.serving import Serving, command, environment, refused, serving
from etl_ml_tests.servers.process import free_ports

GOOD = {"age": 30, "income": 1e4, "country": "DE", "opened": "2001-05-06"}
MANY = json.loads(
    loans(5_000).drop("defaulted").with_columns(pl.col("opened").cast(pl.String)).write_json()
)
TOKEN = "correct horse battery staple"


def test_it_says_what_it_serves_and_where(service: Serving, loans_lake: Path) -> None:
    assert f"Serving {loans_lake}/loans, now version 0000000002" in service.log
    assert "not signed, and no key is configured" in service.log
    assert f"on http://127.0.0.1:{service.port}" in service.log
    assert "loans 0000000002 by onnx, answers within" in service.log


def test_help_has_an_example() -> None:
    done = subprocess.run(command("--help"), capture_output=True, text=True, check=True)
    assert "For example: etl-ml serve phishing --port 8080" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["laons"], "nearest   'loans'"),
        (["./nowhere"], "there is no such folder"),
        (["gopher://x/y"], "nothing is served from gopher://"),
        ([], "it is not said what to serve"),
        (["loans", "--port", "70000"], "--port"),
        (["loans", "--max-rows", "0"], "--max-rows"),
        (["loans", "--unknown-columns", "keep"], "--unknown-columns"),
        (["loans", "--host", "203.0.113.7"], "cannot listen on 203.0.113.7"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_told_and_nothing_listens(
    loans_lake: Path, arguments: list[str], said: str
) -> None:
    done = refused(loans_lake, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "fix it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(loans_lake: Path, service: Serving) -> None:
    done = refused(loans_lake, "loans", "--port", str(service.port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{service.port}" in done.stderr


def test_a_pipeline_without_a_champion_is_told(own_lake: Path) -> None:
    shutil.rmtree(own_lake / "loans" / "registry")
    done = refused(own_lake, "loans")
    assert (done.returncode, "no model has been deployed here yet" in done.stderr) == (1, True)


def test_a_champion_that_cannot_be_served_is_told(own_lake: Path) -> None:
    (own_lake / "loans" / "registry" / "models" / "0000000002" / "model.onnx").unlink()
    done = refused(own_lake, "loans")
    assert (done.returncode, "model.onnx is missing" in done.stderr) == (1, True)


@pytest.mark.parametrize("where", ["argument", "ETL_ML_SERVE_MODEL", "AZUREML_MODEL_DIR"])
def test_a_package_by_itself_is_served_as_in_a_container(
    loans_lake: Path, tmp_path: Path, where: str
) -> None:
    shutil.copytree(loans_lake / "loans" / "registry" / "models" / "0000000001", tmp_path / "m")
    place = tmp_path if where == "AZUREML_MODEL_DIR" else tmp_path / "m"
    for path in (tmp_path / "m").iterdir():
        path.chmod(0o444)
    arguments = [str(place)] if where == "argument" else []
    extra = {} if where == "argument" else {where: str(place)}
    with serving(None, *arguments, extra=extra) as service:
        assert service.get("/version").json["version"] == "0000000001"
        assert service.get("/ping").status == 200
        assert service.post([GOOD]).status == 200


@pytest.fixture(scope="module")
def guarded(loans_lake: Path) -> Iterator[Serving]:
    with serving(loans_lake, "loans", extra={"ETL_ML_SERVE_TOKEN": TOKEN}) as running:
        yield running


WRONG: dict[str, dict[str, str]] = {
    "none": {},
    "another": {"authorization": "Bearer correct horse battery stapl3"},
    "shorter": {"authorization": "Bearer correct"},
    "longer": {"authorization": f"Bearer {TOKEN}s"},
    "another scheme": {"authorization": f"Basic {TOKEN}"},
    "in another place": {"x-api-key": TOKEN},
    "not ASCII": {"authorization": "Bearer \xe9"},
}


@pytest.mark.parametrize(
    "path", ["/invocations", "/metrics", "/schema", "/v2/models/loans", "/docs"]
)
@pytest.mark.parametrize("kind", WRONG)
def test_a_request_without_the_token_is_401_and_counted(
    guarded: Serving, kind: str, path: str
) -> None:
    right = {"authorization": f"Bearer {TOKEN}"}

    def failures() -> str:
        text = guarded.get("/metrics", **right).body.decode()
        lines = [line for line in text.splitlines() if 'reason="unauthorized"' in line]
        return lines[0].split()[-1] if lines else "0"

    before = float(failures())
    method = "POST" if path == "/invocations" else "GET"
    reply = guarded.ask(method, path, json.dumps([GOOD]).encode(), WRONG[kind])
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in reply.body.decode()
    assert float(failures()) == before + 1


def test_with_the_token_it_answers_and_probes_need_none(guarded: Serving) -> None:
    right = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    assert guarded.ask("POST", "/invocations", json.dumps([GOOD]).encode(), right).status == 200
    for path in ("/ping", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert guarded.get(path).status == 200
    assert TOKEN not in guarded.log


def test_a_wrong_token_is_refused_before_a_body_is_read(guarded: Serving) -> None:
    with guarded.connect() as connection:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_a_short_token_is_refused_at_the_start_and_not_shown(loans_lake: Path) -> None:
    done = refused(loans_lake, "loans", extra={"ETL_ML_SERVE_TOKEN": "hunter2"})
    assert done.returncode == 1
    assert "ETL_ML_SERVE_TOKEN" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_it_ends_in_order_and_answers_what_has_come_in(loans_lake: Path) -> None:
    with serving(loans_lake, "loans") as service:
        service.post(MANY)
        replies: list[int] = []

        def ask() -> None:
            replies.append(service.post(MANY).status)

        clients = [threading.Thread(target=ask) for _ in range(6)]
        for client in clients:
            client.start()
        # Who has not connected yet when it stops is refused, and rightly.
        while service.metric("etl_ml_serve_in_progress") + len(replies) < 6:
            time.sleep(0.001)
        assert service.stop() == 0
        for client in clients:
            client.join()
        assert replies.count(200) == len(replies) == 6
        with pytest.raises(ConnectionError):
            service.get("/ping")


def test_an_interrupt_ends_it_without_a_traceback(loans_lake: Path) -> None:
    with serving(loans_lake, "loans") as service:
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(20) == 0
        assert "Traceback" not in service.log


def test_several_processes_share_the_port_and_tell_one_set_of_numbers(loans_lake: Path) -> None:
    (port,) = free_ports(1)
    process = subprocess.Popen(
        command("loans", "--workers", "2", "--port", str(port)),
        env=environment(loans_lake),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        service = Serving(process)
        end = time.monotonic() + 60
        while service.log.count("startup complete") < 2 and time.monotonic() < end:
            time.sleep(0.05)
        for _ in range(60):
            assert service.post([GOOD]).status == 200
        numbers = {service.metric("etl_ml_serve_rows_total") for _ in range(10)}
        assert numbers == {60.0}
        about = {"pipeline": "loans", "version": "0000000002", "runtime": "onnx"}
        assert service.metric("etl_ml_serve_model_info", **about) == 1
        assert service.stop() == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()


def test_idle_connections_are_kept_for_the_next_request(service: Serving) -> None:
    body = json.dumps([GOOD]).encode()
    request = (
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body)
    )
    with service.connect() as connection:
        for _ in range(3):
            connection.sendall(request)
            assert read_answer(connection).startswith(b"HTTP/1.1 200")


def read_answer(connection: socket.socket) -> bytes:
    data = b""
    while b'"version"' not in data:
        data += connection.recv(4096)
    return data


def test_more_connections_than_are_kept_are_put_off(loans_lake: Path) -> None:
    with serving(loans_lake, "loans", "--max-connections", "5") as service:
        held: list[Any] = [service.connect() for _ in range(5)]
        time.sleep(0.2)
        assert service.get("/version").status == 503
        for connection in held:
            connection.close()
        time.sleep(0.2)
        assert service.get("/version").status == 200


def test_a_line_a_request_is_logged_where_it_is_asked_for(loans_lake: Path) -> None:
    with serving(loans_lake, "loans", "--access-log") as service:
        service.post([GOOD])
        service.wait_for('"POST /invocations HTTP/1.1" 200')
        assert "10000" not in service.log.replace("poll", "")
