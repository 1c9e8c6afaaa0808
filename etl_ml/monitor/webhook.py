"""JSON over HTTP."""

from __future__ import annotations

from typing import Any, NoReturn
from urllib.parse import urlsplit

from pydantic import SecretStr

from etl_ml.monitor.delivery import Undelivered
from etl_ml.monitor.message import Message
from etl_ml.spec.automation import WebhookAlert

_CONNECT, _READ = 5.0, 10.0


def send(name: str, alert: WebhookAlert, message: Message) -> None:
    """Post a message's document; see `post`."""
    headers = {"Idempotency-Key": message.id}
    if alert.token is not None:
        headers["Authorization"] = f"Bearer {alert.token.get_secret_value()}"
    post(name, alert.url, message.document(), headers)


def post(
    name: str, url: SecretStr, document: dict[str, Any], headers: dict[str, str] | None = None
) -> None:
    """Post JSON. No redirection is followed: another place is not told what this one may know.

    Parameters
    ----------
    name : the receiver, for messages

    Raises
    ------
    Undelivered
        The answer is no 2xx, or there is none.
    """
    import requests

    try:
        with requests.post(
            url.get_secret_value(),
            json=document,
            headers={"User-Agent": "etl_ml", **(headers or {})},
            timeout=(_CONNECT, _READ),
            allow_redirects=False,
            stream=True,  # what the body says is of no interest
        ) as answer:
            if answer.status_code >= 300:
                _refused(name, answer)
    # The text of the error has the URL, which is a secret.
    except requests.Timeout:
        _failed(name, "does not answer in time", "see whether it is up")
    except requests.exceptions.SSLError:
        _failed(name, "has a certificate that is not trusted", "see its certificate")
    except requests.ConnectionError:
        _failed(name, "cannot be reached", "see whether its host and port are right")
    except requests.RequestException as error:
        _failed(name, f"cannot be asked ({type(error).__name__})", "correct its url")


def _refused(name: str, answer: Any) -> NoReturn:
    status = f"{answer.status_code} {answer.reason}".strip()
    if answer.status_code < 400:
        target = urlsplit(answer.headers.get("Location", "")).hostname
        where = f" to {target}" if target else ""
        _failed(name, f"redirects{where} ({status})", "give the URL that it redirects to")
    fixes = {
        401: "correct its token",
        403: "correct its token, or its url",
        404: "correct its url",
        410: "make a new webhook",
    }
    fix = fixes.get(answer.status_code, "look at what it says of itself")
    _failed(name, f"answers {status}", fix, _seconds(answer.headers.get("Retry-After", "")))


def _failed(name: str, how: str, fix: str, retry_after: float = 0.0) -> NoReturn:
    error = Undelivered(f"{name} {how}.", where="automation.alerts", fix=fix)
    error.retry_after = retry_after
    raise error from None


def _seconds(text: str) -> float:
    """Of Retry-After, where it is a number."""
    return float(text) if text.isascii() and text.isdecimal() else 0.0
