"""Messages over real connections, to receivers that take them and to those that do not."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etl_ml.monitor.delivery import Undelivered, deliver
from etl_ml.spec.automation import Alert
from etl_ml_tests.monitor.notices import alerted, failed, message
from etl_ml_tests.servers.http import Http, as_json
from etl_ml_tests.servers.process import free_ports
from etl_ml_tests.servers.smtp import PASSWORD, USER, Smtp, certified

SECRET = "/services/T000/B000/s3cr3t"


def alert(**fields: Any) -> Alert:
    return alerted(fields).automation.alerts[0]


def slack(url: str, path: str = SECRET) -> Alert:
    return alert(type="slack", url=url + path)


def email(server: Smtp, **fields: Any) -> Alert:
    given = {"sender": "etl@example.org", "to": ["ops@example.org"], "security": "none"} | fields
    return alert(type="email", host="127.0.0.1", port=server.port, **given)


def refusal(asked: Alert, seconds: float = 5) -> Undelivered:
    """Why a message was not taken; no secret of the receiver is in it, nor in its causes."""
    with pytest.raises(Undelivered) as caught:
        deliver(asked, message(), seconds)
    told = "".join(traceback.format_exception(caught.value))
    assert "s3cr3t" not in told
    assert PASSWORD not in told
    return caught.value


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server on a bare socket that says to its first client what it likes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                talk(client)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_slack_takes_one_text(http: Http) -> None:
    http.serve(SECRET, (200, {}, b"ok"))
    deliver(slack(http.url), message())
    (request,) = http.requests
    assert request.json().keys() == {"text"}
    assert "*loans: the run failed at raw_data*" in request.json()["text"]


def test_a_webhook_gets_the_facts_as_json_with_its_token(http: Http) -> None:
    http.serve("/hook", (204, {}, b""))
    told = message(failed(numbers={"rows": "12"}), ui="https://dagster.example")
    deliver(alert(type="webhook", url=f"{http.url}/hook", token="t0k3n"), told)
    (request,) = http.requests
    assert request.headers["authorization"] == "Bearer t0k3n"
    assert request.headers["idempotency-key"] == told.id
    document = request.json()
    assert document["format"] == 1
    assert document["pipeline"] == "loans"
    assert document["notices"] == [
        {
            "event": "run_failed",
            "what": "the run failed at raw_data",
            "at": "2025-11-24T16:00:00+00:00",
            "run_id": "r1",
            "asset": "raw_data",
            "details": ["loans.csv: there is no such file."],
            "numbers": {"rows": "12"},
            "next": "etl-ml show loans",
            "links": {
                "run": "https://dagster.example/runs/r1",
                "asset": "https://dagster.example/assets/loans/raw_data",
            },
        }
    ]


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (500, {}, "answers 500 Internal Server Error."),
        (404, {}, "answers 404 Not Found."),
        (403, {}, "answers 403 Forbidden."),
        (429, {"Retry-After": "120"}, "answers 429 Too Many Requests."),
    ],
)
def test_a_receiver_that_refuses_is_quoted_by_its_status(
    http: Http, status: int, headers: dict[str, str], told: str
) -> None:
    http.serve(SECRET, as_json({"text": "s3cr3t"}, status, **headers))
    error = refusal(slack(http.url))
    assert told in error.what
    assert error.retry_after == (120 if headers else 0)


def test_a_redirection_is_told_and_not_followed(http: Http) -> None:
    location = f"http://elsewhere.example{SECRET}"
    http.serve("/hook", (308, {"Location": location}, b""))
    error = refusal(alert(type="webhook", url=f"{http.url}/hook", token="s3cr3t"))
    assert "redirects to elsewhere.example (308 Permanent Redirect)" in error.what
    assert len(http.requests) == 1


def test_nobody_listens() -> None:
    assert "cannot be reached" in refusal(slack(f"http://127.0.0.1:{free_ports(1)[0]}")).what
    assert "cannot be reached" in refusal(slack("http://no-such-host.invalid")).what


def test_a_certificate_of_nobody_is_refused(tmp_path: Path) -> None:
    def talk(client: socket.socket) -> None:
        with pytest.raises(OSError):  # noqa: PT011, the client hangs up, one way or another
            certified(tmp_path).wrap_socket(client, server_side=True).recv(1)

    with listening(talk) as place:
        assert "certificate that is not trusted" in refusal(slack(f"https://{place}")).what


def test_a_receiver_that_says_nothing_or_hardly_anything_is_left_in_time() -> None:
    def nothing(client: socket.socket) -> None:
        time.sleep(20)

    def drip(client: socket.socket) -> None:
        client.recv(10_000)
        client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(200):
            client.sendall(b"x")
            time.sleep(0.1)

    for talk in (nothing, drip):
        with listening(talk) as place:
            begun = time.monotonic()
            error = refusal(slack(f"http://{place}"), seconds=1.0)
            assert "did not answer within 1 seconds" in error.what
            assert time.monotonic() - begun < 5


def test_a_receiver_may_say_nonsense() -> None:
    def talk(client: socket.socket) -> None:
        client.recv(10_000)
        client.sendall(b"220 mail.example ESMTP\r\n")

    with listening(talk) as place:
        refusal(slack(f"http://{place}"))


def test_mail_arrives_in_plain_text(tmp_path: Path) -> None:
    with Smtp(tmp_path) as server:
        told = message(failed(details=("Größe ≠ 3",)))
        deliver(email(server, to=["ops@example.org", "ml@example.org"]), told)
    (mail,) = server.mails
    assert mail["Subject"] == "loans: the run failed at raw_data"
    assert (mail["From"], mail["To"]) == ("etl@example.org", "ops@example.org, ml@example.org")
    assert mail["Message-ID"] == f"<{told.id}@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().splitlines() == told.text.splitlines()
    assert "Größe ≠ 3" in mail.get_content()


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_encrypted_and_the_user_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    with Smtp(tmp_path, security=security, auth=True) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        deliver(email(server, security=security, user=USER, password=PASSWORD), message())
        wrong = refusal(email(server, security=security, user=USER, password=PASSWORD + "!"))
    (mail,) = server.mails
    assert mail["X-Encrypted"] == "True"
    assert "refuses user and password (535)" in wrong.what


def test_no_password_goes_to_a_server_without_a_trusted_certificate(tmp_path: Path) -> None:
    with Smtp(tmp_path, security="starttls", auth=True) as server:
        error = refusal(email(server, security="starttls", user=USER, password=PASSWORD))
    assert "no certificate that is trusted" in error.what
    assert server.mails == []


def test_a_server_without_starttls_gets_nothing(tmp_path: Path) -> None:
    with Smtp(tmp_path) as server:
        error = refusal(email(server, security="starttls", user=USER, password=PASSWORD))
    assert "offers no STARTTLS" in error.what
    assert server.mails == []


def test_a_mail_server_that_refuses_says_so(tmp_path: Path) -> None:
    with Smtp(tmp_path) as server:
        server.down = True
        assert "answers 451" in refusal(email(server)).what
        server.down, server.refused = False, ("ops@example.org",)
        assert "takes none of the recipients" in refusal(email(server)).what
        some = refusal(email(server, to=["ops@example.org", "ml@example.org"]))
        assert some.partly
        assert some.seen == "ops@example.org"
    assert len(server.mails) == 1
    assert "cannot be reached" in refusal(email(server)).what


def test_a_defect_is_raised_where_the_message_was_given(http: Http) -> None:
    http.serve(SECRET, (200, {}, b"ok"))
    broken = message(failed(next=object()))
    with pytest.raises(TypeError, match="not JSON serializable"):
        deliver(alert(type="webhook", url=http.url + SECRET), broken)
