"""HTTP requests that wait where a server asks for it, and tell what it refuses."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

from etl_ml.extract.documents import parse_json
from etl_ml.extract.source_error import SourceError, SourceUnavailable
from etl_ml.lake.backoff import Backoff
from etl_ml.spec.error import bounded
from etl_ml.spec.source import RestSource, public

_LONGEST_WAIT = 300.0  # seconds that a server may ask for


def open_session(source: RestSource) -> Any:
    """A `requests.Session` for one source.

    429 and 5xx answers and lost connections are tried again, after what Retry-After says if
    anything; every other refusal is told at once. JSON keeps all digits of its numbers. Requests
    go to the host of `base_url` alone, so that no other one sees the credentials.
    """
    import requests

    exchange = _Exchange(source)

    class Session(requests.Session):
        def send(self, request: Any, **options: Any) -> Any:
            answer = exchange.answer(super().send, request, options)
            answer.json = lambda **_: _json(source, answer)
            return answer

    return Session()


class _Exchange:
    """Requests, one after the other, each with its attempts."""

    def __init__(self, source: RestSource) -> None:
        self._source = source
        self._due = 0.0

    def answer(self, send: Any, request: Any, options: dict[str, Any]) -> Any:
        import requests

        asked, base = urlsplit(request.url), urlsplit(self._source.base_url)
        if (asked.scheme, asked.netloc) != (base.scheme, base.netloc):
            self._refuse(
                f"the next page is at {bounded(public(request.url), 120)}, on another host",
                "set source.base_url to that host, if it may see the credentials",
            )
        heals = (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        )
        # Attempts are what ends this, not time.
        backoff = Backoff(patience=float("inf"))
        for attempt in range(self._source.max_retries + 1):
            last = attempt == self._source.max_retries
            self._pace()
            try:
                answer = send(request, **options)
            except heals as error:
                if last or "Name or service not known" in str(error) or "SSL" in str(error):
                    self._unreachable(error, attempt + 1)
                backoff.wait(error)
                continue
            except requests.RequestException as error:
                self._unreachable(error, attempt + 1)
            if answer.status_code == 429 or answer.status_code >= 500:
                wait = _retry_after(answer)
                if last or wait > _LONGEST_WAIT:
                    self._refused(answer, attempt + 1)
                backoff.wait(
                    SourceError("the API is busy.", fix="wait, then run it again"), at_least=wait
                )
                continue
            if answer.status_code >= 300:
                self._refused(answer, attempt + 1)
            return answer
        raise AssertionError  # the last attempt returns or raises

    def _pace(self) -> None:
        if self._source.requests_per_second is not None:
            time.sleep(max(0.0, self._due - time.monotonic()))
            self._due = time.monotonic() + 1 / self._source.requests_per_second

    def _unreachable(self, error: Exception, attempts: int) -> NoReturn:
        reason = "it does not answer in time"
        text = str(error)
        if "Name or service not known" in text or "NameResolution" in text:
            reason = "there is no such host"
        elif "refused" in text:
            reason = "nobody listens there"
        elif "SSL" in text:
            reason = "its certificate is not trusted"
        elif type(error).__name__ != "ReadTimeout":
            reason = "the connection is lost"
        here = reason in ("there is no such host", "its certificate is not trusted")
        self._refuse(
            f"{reason} (attempt {attempts})",
            "correct source.base_url, or run it again",
            kind=SourceError if here else SourceUnavailable,
        )

    def _refused(self, answer: Any, attempts: int) -> NoReturn:
        status = f"{answer.status_code} {answer.reason}".strip()
        fixes = {
            401: "correct source.auth",
            403: "correct source.auth, or what it may read",
            404: "correct source.base_url and source.path",
            429: "set source.requests_per_second to what the API allows",
        }
        fix = fixes.get(answer.status_code, "look at what the API says")
        if 300 <= answer.status_code < 400:
            target = public(answer.headers.get("Location", ""))
            self._refuse(
                f"it has moved to {bounded(target, 120)} ({status})", "correct source.base_url"
            )
        tried = f" after {attempts} attempts" if attempts > 1 else ""
        body = bounded(" ".join(self._redacted(answer.text[:400]).split()), 160)
        heals = answer.status_code == 429 or answer.status_code >= 500
        self._refuse(
            f"the answer is {status}{tried}",
            fix,
            body if answer.text else None,
            SourceUnavailable if heals else SourceError,
        )

    def _redacted(self, text: str) -> str:
        auth = self._source.auth
        secrets = list(self._source.headers.values())
        for name in ("token", "api_key", "password", "client_id", "client_secret"):
            if auth is not None and (value := getattr(auth, name)) is not None:
                secrets.append(value)
        for secret in secrets:
            if len(plain := secret.get_secret_value()) > 2:
                text = text.replace(plain, "…")
        return text

    def _refuse(
        self,
        problem: str,
        fix: str,
        seen: str | None = None,
        kind: type[SourceError] = SourceError,
    ) -> NoReturn:
        raise kind(
            f"{self._source.address}: {problem}.", seen=seen, where="source", fix=fix
        ) from None


def _retry_after(answer: Any) -> float:
    """Seconds to wait, as Retry-After says: a number or a date."""
    text = answer.headers.get("Retry-After", "").strip()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _json(source: RestSource, answer: Any) -> Any:
    try:
        return parse_json(answer.content)
    except ValueError as error:
        kind = answer.headers.get("Content-Type", "of no type").partition(";")[0]
        raise SourceError(
            f"{source.address}: the answer is not JSON ({error}).",
            seen=f"{len(answer.content):,} bytes {kind} from {bounded(public(answer.url), 120)}",
            where="source",
            fix="correct source.path, or look at what the API answers",
        ) from None
