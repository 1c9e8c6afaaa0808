"""REST APIs with pages, cursors, limits and failures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl_ml.extract import SourceError, extract
from etl_ml.extract.rest import parameters
from etl_ml.lake import Lake
from etl_ml.spec import Pipeline
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import everything, grown, raw
from etl_ml_tests.servers.http import Http, Request, as_json

COLUMNS = {
    "id": {"type": "integer"},
    "total": {"type": "float"},
    "buyer.country": {"type": "string"},
    "updated_at": {"type": "datetime"},
    "defaulted": {"type": "integer"},
}


def pipeline_over(http: Http, **source: Any) -> Pipeline:
    own = {"type": "rest_api", "base_url": http.url, "path": "orders", **source}
    return make_pipeline(source=own, contract={"columns": COLUMNS, "primary_key": ["id"]})


def order(key: int, **fields: Any) -> dict[str, Any]:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=key)
    return {
        "id": key,
        "total": key / 4,
        "buyer": {"country": "DE"},
        "updated_at": moment.isoformat().replace("+00:00", "Z"),
        "defaulted": 0,
        **fields,
    }


def read(pipeline: Pipeline) -> pl.DataFrame:
    return everything(
        extract(
            pipeline.source,
            base=Path(),
            contract=pipeline.contract,
            primary_key=pipeline.row_key(),
        ).rows
    )


def ids(frame: pl.DataFrame) -> list[int]:
    return sorted(map(int, frame["id"].to_list()))


def refused(pipeline: Pipeline) -> str:
    with pytest.raises(SourceError) as caught:
        read(pipeline)
    assert "abc-secret" not in str(caught.value)
    return str(caught.value)


def by_page(rows: int, size: int) -> Any:
    def answer(request: Request) -> Any:
        page = int(request.query.get("page", 1))
        found = [order(i) for i in range((page - 1) * size, min(page * size, rows))]
        return as_json({"data": {"items": found}, "page": page})

    return answer


PAGES = {
    "paginator": {"type": "page_number", "base_page": 1, "page_param": "page"},
    "data_selector": "data.items",
}


def test_pages_by_number(http: Http) -> None:
    http.routes["/orders"] = by_page(250, 100)
    frame = read(pipeline_over(http, **PAGES))
    assert ids(frame) == list(range(250))
    assert frame["total"].to_list()[:3] == ["0.0", "0.25", "0.5"]
    assert set(frame["buyer.country"]) == {"DE"}


def test_pages_by_cursor_offset_link_and_header(http: Http) -> None:
    def cursor(request: Request) -> Any:
        at = int(request.query.get("after", 0))
        rest = {"next": str(at + 50)} if at < 100 else {}
        return as_json({"items": [order(i) for i in range(at, at + 50)], "cursors": rest})

    def offset(request: Request) -> Any:
        at, size = int(request.query["offset"]), int(request.query["limit"])
        return as_json({"items": [order(i) for i in range(at, min(at + size, 120))]})

    def link(request: Request) -> Any:
        at = int(request.query.get("at", 0))
        following = {"next": f"{http.url}/link?at={at + 40}"} if at < 80 else {}
        return as_json({"items": [order(i) for i in range(at, at + 40)], **following})

    def header(request: Request) -> Any:
        at = int(request.query.get("at", 0))
        head = {"Link": f'<{http.url}/header?at={at + 30}>; rel="next"'} if at < 60 else {}
        return as_json([order(i) for i in range(at, at + 30)], **head)

    http.routes |= {"/cursor": cursor, "/offset": offset, "/link": link, "/header": header}
    asked: list[tuple[str, Mapping[str, Any], int]] = [
        ("cursor", {"type": "cursor", "cursor_path": "cursors.next", "cursor_param": "after"}, 150),
        ("offset", {"type": "offset", "limit": 50, "offset_param": "offset"}, 120),
        ("link", {"type": "json_link", "next_url_path": "next"}, 120),
        ("header", {"type": "header_link"}, 90),
    ]
    for path, paginator, rows in asked:
        selector = None if path == "header" else "items"
        found = read(pipeline_over(http, path=path, paginator=paginator, data_selector=selector))
        assert ids(found) == list(range(rows)), path


def test_numbers_keep_their_digits_and_unknown_fields_their_rows(http: Http) -> None:
    body = b'[{"id": 12345678901234567890, "total": 1.10, "tip": 0.50, "defaulted": 1}]'
    http.serve("/orders", (200, {"Content-Type": "application/json"}, body))
    row = read(pipeline_over(http)).to_dicts()[0]
    assert (row["id"], row["total"]) == ("12345678901234567890", "1.10")
    assert '"tip": 0.50' in row["_etl_ml_original"]


def test_a_server_that_is_busy_is_waited_for(http: Http) -> None:
    pages = by_page(200, 100)
    answers = {2: (429, {"Retry-After": "1"}, b"slow"), 3: (500, {}, b"oops"), 5: (503, {}, b"")}
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    answers[6] = (429, {"Retry-After": soon}, b"")

    http.routes["/orders"] = lambda request: answers.get(len(http.requests)) or pages(request)
    start = time.monotonic()
    frame = read(pipeline_over(http, **PAGES))
    assert ids(frame) == list(range(200))
    assert time.monotonic() - start > 1
    assert len(http.requests) == 3 + len(answers)


def test_a_body_that_is_cut_short_is_asked_for_again(http: Http) -> None:
    whole = as_json([order(i) for i in range(50)])
    cut = (200, {"Content-Type": "application/json", "Content-Length": "9999"}, whole[2][:100])
    http.serve("/orders", cut, whole)
    assert ids(read(pipeline_over(http))) == list(range(50))


def test_a_server_that_stays_busy_is_named_with_its_answer(http: Http) -> None:
    http.serve("/orders", (500, {}, b"database is down, token=abc-secret"))
    auth = {"type": "bearer", "token": "abc-secret"}
    message = refused(pipeline_over(http, max_retries=2, auth=auth))
    assert "the answer is 500 Internal Server Error after 3 attempts" in message
    assert "database is down, token=…" in message


@pytest.mark.parametrize(
    ("status", "fix"),
    [(401, "source.auth"), (403, "source.auth"), (404, "source.path"), (400, "what the API says")],
)
def test_what_cannot_heal_is_told_at_once(http: Http, status: int, fix: str) -> None:
    http.serve("/orders", (status, {}, b"no"))
    message = refused(pipeline_over(http))
    assert f"the answer is {status}" in message
    assert fix in message
    assert len(http.requests) == 1


def test_no_host_and_nobody_there() -> None:
    class Nowhere:
        url = "http://no.such.host.invalid"

    start = time.monotonic()
    assert "there is no such host" in refused(pipeline_over(Nowhere()))  # type: ignore[arg-type]
    Nowhere.url = "http://127.0.0.1:1"
    message = refused(pipeline_over(Nowhere(), max_retries=2))  # type: ignore[arg-type]
    assert "nobody listens there" in message
    assert time.monotonic() - start < 15


def test_pages_that_repeat_and_pages_without_end_are_named(http: Http) -> None:
    http.routes["/orders"] = lambda request: as_json({"data": {"items": [order(1)]}})
    assert "page 2 is one that was there before" in refused(pipeline_over(http, **PAGES))

    # Two pages that lead to each other.
    def circle(request: Request) -> Any:
        at = request.query.get("after", "a")
        return as_json({"items": [order(ord(at))], "next": "b" if at == "a" else "a"})

    http.routes["/circle"] = circle
    paginator = {"type": "cursor", "cursor_path": "next", "cursor_param": "after"}
    around = pipeline_over(http, path="circle", paginator=paginator, data_selector="items")
    assert "is one that was there before" in refused(around)

    http.routes["/orders"] = by_page(10**9, 1)
    endless = refused(pipeline_over(http, max_pages=20, **PAGES))
    assert "there are more than 20 pages" in endless
    # An endless cursor over empty pages.
    http.routes["/empty"] = lambda request: as_json({"items": [], "next": "z"})
    empty = pipeline_over(http, path="empty", paginator=paginator, data_selector="items")
    assert "is one that was there before" in refused(empty)


def test_an_answer_that_is_no_json_is_named(http: Http) -> None:
    http.serve("/orders", (200, {"Content-Type": "text/html"}, b"<html>login</html>"))
    message = refused(pipeline_over(http))
    assert "the answer is not JSON" in message
    assert "18 bytes text/html from" in message
    http.serve("/orders", (200, {"Content-Type": "application/json"}, b'[{"id": 1}, {"id": 2'))
    assert "the answer is not JSON" in refused(pipeline_over(http))


def test_a_selector_that_finds_nothing_is_named(http: Http) -> None:
    http.serve("/orders", as_json({"result": {"rows": [order(1)]}, "total": 1}))
    message = refused(pipeline_over(http, data_selector="results.rows"))
    assert "'results.rows' finds nothing in the first page" in message
    assert "the answer is an object with result, total" in message


def test_an_empty_answer_is_refused(http: Http) -> None:
    http.serve("/orders", as_json({"items": []}))
    assert "a header and no rows" in refused(pipeline_over(http, data_selector="items"))


def test_credentials_go_to_the_apis_host_alone(http: Http) -> None:
    other = Http()
    try:
        auth = {"type": "api_key", "name": "X-Key", "api_key": "abc-secret"}
        following = {"items": [order(1)], "next": f"{other.url}/steal"}
        http.serve("/orders", as_json(following))
        link = {"type": "json_link", "next_url_path": "next"}
        pipeline = pipeline_over(http, auth=auth, paginator=link, data_selector="items")
        assert "on another host" in refused(pipeline)
        http.serve("/orders", (302, {"Location": f"{other.url}/steal"}, b""))
        assert "it has moved to" in refused(pipeline)
        assert not other.requests
        assert {r.headers["x-key"] for r in http.requests} == {"abc-secret"}
    finally:
        other.close()


def test_every_kind_of_auth_reaches_the_server(http: Http) -> None:
    http.serve("/orders", as_json([order(1)]))
    http.serve("/token", as_json({"access_token": "t0", "expires_in": 3600}))
    kinds: list[dict[str, Any]] = [
        {"type": "bearer", "token": "t1"},
        {"type": "http_basic", "username": "u", "password": "p"},
        {"type": "api_key", "name": "key", "api_key": "k", "location": "query"},
        {
            "type": "oauth2_client_credentials",
            "access_token_url": f"{http.url}/token",
            "client_id": "i",
            "client_secret": "s",
        },
    ]
    for auth in kinds:
        read(pipeline_over(http, auth=auth, headers={"X-Tenant": "acme"}))
    orders = [r for r in http.requests if r.path == "/orders"]
    assert [r.headers.get("authorization", "")[:9] for r in orders] == [
        "Bearer t1",
        "Basic dTp",
        "",
        "Bearer t0",
    ]
    assert orders[2].query == {"key": "k"}
    assert {r.headers["x-tenant"] for r in orders} == {"acme"}


def test_a_token_that_is_refused_is_told(http: Http) -> None:
    http.serve("/token", (401, {}, b"no"))
    auth = {
        "type": "oauth2_client_credentials",
        "access_token_url": f"{http.url}/token",
        "client_id": "i",
        "client_secret": "abc-secret",
    }
    message = refused(pipeline_over(http, auth=auth))
    assert "the server that gives tokens answers 401" in message


def test_requests_keep_the_rate(http: Http) -> None:
    http.routes["/orders"] = by_page(50, 10)
    start = time.monotonic()
    read(pipeline_over(http, requests_per_second=10, **PAGES))
    assert len(http.requests) == 6
    assert time.monotonic() - start >= 0.5


def test_the_cursor_is_asked_for_and_what_is_older_is_left_out(http: Http, lake: Lake) -> None:
    there = [order(i) for i in range(100)]

    def answer(request: Request) -> Any:
        # This API knows days only.
        since = request.query.get("since", "")
        return as_json([one for one in there if one["updated_at"] >= since])

    http.routes["/orders"] = answer
    pipeline = pipeline_over(
        http,
        params={"since": "{cursor:date}", "sort": "asc"},
        incremental={"cursor": "updated_at", "lag_seconds": 10},
    )
    grown(lake, pipeline, Path())
    there += [order(i) for i in range(100, 130)]
    there.append(order(20, total=99))  # changed, but behind the lag
    grown(lake, pipeline, Path())
    version = grown(lake, pipeline, Path())
    assert version.table.cursor
    assert version.table.cursor["position"].startswith("2026-01-01T00:02:09")
    assert ids(raw(lake, pipeline)) == list(range(130))
    assert [r.query.get("since") for r in http.requests] == [None, "2026-01-01", "2026-01-01"]


def test_a_moment_is_written_as_the_api_wants_it() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    given = {"a": "{cursor}", "b": "gte:{cursor:unix}", "c": "{cursor:unix_ms}", "d": True}
    assert parameters(given, moment) == {
        "a": "2026-01-02T03:04:05Z",
        "b": "gte:1767323045",
        "c": "1767323045000",
        "d": "true",
    }
    assert parameters(given, None) == {"d": "true"}
    assert parameters({"after": "{cursor}"}, 17) == {"after": "17"}


def test_nothing_is_written_to_the_home_folder(http: Http, tmp_path: Path) -> None:
    http.serve("/orders", as_json([order(1)]))
    code = (
        "from pathlib import Path\n"
        "from etl_ml.extract import extract\n"
        "from etl_ml.spec.contract import Contract\n"
        "from etl_ml.spec.source import RestSource\n"
        f"source = RestSource(type='rest_api', base_url={http.url!r}, path='orders')\n"
        "contract = Contract(columns={'id': {'type': 'integer'}}, unknown_columns='drop')\n"
        "print(sum(b.num_rows for b in extract(source, base=Path(), contract=contract).rows))\n"
    )
    environment = os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "x")}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stdout.strip() == "1"
    assert list(tmp_path.iterdir()) == []
