"""REST: one endpoint that answers with JSON, page after page, by dlt's REST client."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.documents import Documents
from etl_ml.extract.http_session import open_session
from etl_ml.extract.reader import Position, Reader, Since
from etl_ml.extract.source_error import SourceError
from etl_ml.spec.contract import Contract
from etl_ml.spec.error import listed
from etl_ml.spec.source import RestAuth, RestPaginator, RestSource

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 20_000
_CURSOR = re.compile(r"\{cursor(?::(unix|unix_ms|date))?\}")


def open_rest(source: RestSource, contract: Contract, since: Since | None) -> Reader:
    """Ask for the first page.

    Raises
    ------
    SourceError
        The server does not answer, refuses, or answers with what has no rows in it.
    """
    try:
        import dlt  # noqa: F401
    except ModuleNotFoundError:
        raise SourceError(
            "A source of type rest_api needs packages that are not installed.",
            where="source.type",
            fix="pip install 'etl_ml[rest]'",
        ) from None
    return _RestReader(source, contract, since)


def first_page(
    source: RestSource, contract: Contract, since: Since | None, seconds: float
) -> tuple[pa.RecordBatch, bool]:
    """The rows of the first page, and whether there is another; asked for once.

    Raises
    ------
    SourceError
    """
    patient = min(source.timeout_seconds, seconds)
    once = source.model_copy(update={"max_retries": 0, "timeout_seconds": patient})
    reader = open_rest(once, contract, since)
    assert isinstance(reader, _RestReader)
    return reader.first()


class _RestReader:
    total = None

    def __init__(self, source: RestSource, contract: Contract, since: Since | None) -> None:
        self._source, self._since = source, since
        self.origin = (source.address,)
        self._documents = Documents(contract)
        self.schema: pa.Schema = self._documents.schema
        # The first page tells what is wrong before any work is done, and the server's clock.
        self._begun: Iterator[Any] | None = self._pages()
        self._first = next(self._begun, None)

    def clock(self) -> datetime | None:
        date = self._first.response.headers.get("Date") if self._first is not None else None
        try:
            return parsedate_to_datetime(date).astimezone(UTC) if date else None
        except ValueError:
            return None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        begun, self._begun = self._begun, None
        pages = self._pages() if begun is None else self._from_first(begun)
        rows: list[Any] = []
        for page in pages:
            rows += page
            if len(rows) >= _ROWS:
                yield self._documents.batch(rows)
                rows = []
        if rows:
            yield self._documents.batch(rows)

    def first(self) -> tuple[pa.RecordBatch, bool]:
        """The first page, and whether it leads to another."""
        if self._first is None:
            return self._documents.batch([]), False
        return self._documents.batch(list(self._first)), self._first.paginator.has_next_page

    def _from_first(self, begun: Iterator[Any]) -> Iterator[Any]:
        if self._first is not None:
            yield self._first
            yield from begun

    def _pages(self) -> Iterator[Any]:
        """Each page's rows, once each."""
        from dlt.common.configuration.specs.runtime_configuration import RuntimeConfiguration
        from dlt.sources.helpers.rest_client.client import RESTClient

        source = self._source
        client = RESTClient(
            source.base_url,
            headers={name: value.get_secret_value() for name, value in source.headers.items()},
            auth=_auth(source.auth) if source.auth else None,
            data_selector=source.data_selector,
            session=open_session(source),
            config=RuntimeConfiguration(),
        )
        pages = client.paginate(
            source.path,
            params=parameters(source.params, self._since.position if self._since else None),
            paginator=_paginator(source.paginator),
            hooks={"response": []},
            timeout=source.timeout_seconds,
            allow_redirects=False,
        )
        before, asked = b"", set[bytes]()
        for number, page in enumerate(self._with_token(pages), start=1):
            if number == 1:
                self._has_rows(page.response)
            content, url = _digest(page.response.content), _digest(page.response.url.encode())
            more = page.paginator.has_next_page
            if url in asked or (content == before and (page or more)):
                self._refuse(
                    f"page {number} is one that was there before ({len(page)} rows)",
                    "correct source.paginator: its parameter does not move the API on",
                    "source.paginator",
                )
            before = content
            asked.add(url)
            yield page
            if number == source.max_pages and more:
                self._refuse(
                    f"there are more than {number:,} pages",
                    "correct source.paginator, or raise source.max_pages",
                    "source.max_pages",
                )

    def _with_token(self, pages: Iterator[Any]) -> Iterator[Any]:
        """Tell a refusal of the server that gives tokens; the API's own are told by the session."""
        import requests

        try:
            yield from pages
        except requests.RequestException as error:
            answer = getattr(error, "response", None)
            told = f"answers {answer.status_code}" if answer is not None else "does not answer"
            self._refuse(
                f"the server that gives tokens {told}",
                "correct access_token_url, client_id and client_secret",
                "source.auth",
            )

    def _has_rows(self, response: Any) -> None:
        """Refuse a selector that finds nothing in the first page."""
        from dlt.common import jsonpath

        selector = self._source.data_selector
        if selector is None or jsonpath.find_values(selector, response.json()):
            return
        document = response.json()
        seen = f"the answer is an object with {listed(document)}"
        self._refuse(
            f"source.data_selector {selector!r} finds nothing in the first page",
            "name where the rows stand, e.g. data.items",
            "source.data_selector",
            seen if isinstance(document, dict) else f"the answer is a {type(document).__name__}",
        )

    def _refuse(self, problem: str, fix: str, where: str, seen: str | None = None) -> NoReturn:
        raise SourceError(
            f"{self.origin[0]}: {problem}.", seen=seen, where=where, fix=fix
        ) from None


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def parameters(
    params: dict[str, str | int | float | bool], position: Position | date | None
) -> dict[str, Any]:
    """The query's parameters, with the cursor's place filled in.

    `{cursor}` is a number or text as it is, a moment as ISO 8601 in UTC; `{cursor:unix}`,
    `{cursor:unix_ms}` and `{cursor:date}` are a moment's seconds and milliseconds since 1970, and
    its day. A parameter with a place for the cursor is left out when everything is read.
    """
    filled: dict[str, Any] = {}
    for name, value in params.items():
        if not isinstance(value, str) or not _CURSOR.search(value):
            filled[name] = str(value).lower() if isinstance(value, bool) else value
        elif position is not None:
            filled[name] = _CURSOR.sub(lambda found: _written(position, found[1]), value)
    return filled


def _written(position: Position | date, form: str | None) -> str:
    if not isinstance(position, datetime):
        return str(position)
    moment = position.astimezone(UTC)
    if form == "date":
        return moment.date().isoformat()
    if form:
        return str(int(moment.timestamp() * (1000 if form == "unix_ms" else 1)))
    return moment.replace(tzinfo=None).isoformat() + "Z"


def _auth(auth: RestAuth) -> Any:
    from dlt.sources.helpers.rest_client import auth as kinds

    def secret(name: str) -> str:
        value = getattr(auth, name)
        return str(value.get_secret_value())

    if auth.type == "bearer":
        return kinds.BearerTokenAuth(secret("token"))
    if auth.type == "api_key":
        return kinds.APIKeyAuth(str(auth.name), secret("api_key"), auth.location)
    if auth.type == "http_basic":
        return kinds.HttpBasicAuth(str(auth.username), secret("password"))
    return kinds.OAuth2ClientCredentials(
        access_token_url=str(auth.access_token_url),
        client_id=secret("client_id"),
        client_secret=secret("client_secret"),
    )


def _paginator(asked: RestPaginator) -> Any:
    from dlt.sources.helpers.rest_client import paginators as kinds

    given = {
        name: value
        for name, value in asked.model_dump(exclude={"type"}).items()
        if value is not None
    }
    if asked.type == "auto":
        return None
    made = {
        "single_page": kinds.SinglePagePaginator,
        "json_link": kinds.JSONLinkPaginator,
        "header_link": kinds.HeaderLinkPaginator,
        "cursor": kinds.JSONResponseCursorPaginator,
        "offset": kinds.OffsetPaginator,
        "page_number": kinds.PageNumberPaginator,
    }[asked.type]
    if asked.type in ("offset", "page_number"):
        given.setdefault("total_path", None)
    return made(**given)
