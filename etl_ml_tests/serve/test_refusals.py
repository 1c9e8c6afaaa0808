"""Bad input is refused with one short reason; nothing of the request comes back but the cell."""

from __future__ import annotations

import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl_ml_tests.serve.serving import Serving, serving

GOOD = {"age": 30, "income": 1e4, "country": "DE", "opened": "2001-05-06"}


def row(**changed: Any) -> dict[str, Any]:
    return {k: v for k, v in (GOOD | changed).items() if v is not ...}


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pl.DataFrame({name: [cell] for name, cell in GOOD.items()} | columns).write_parquet(out)
    return out.getvalue()


CELLS: list[tuple[str, Any, str, str]] = [
    ("age", "30", "type", "a whole number of 64 bits"),
    ("age", 30.5, "type", "a whole number of 64 bits"),
    ("age", True, "type", "a whole number of 64 bits"),
    ("age", 10**40, "type", "a whole number of 64 bits"),
    ("age", 2**63, "type", "a whole number of 64 bits"),
    ("age", -(2**63), "min", "at least 18"),
    ("age", 17, "min", "at least 18"),
    ("age", 101, "max", "at most 100"),
    ("age", [30], "type", "a whole number of 64 bits"),
    ("age", {"a": 1}, "type", "a whole number of 64 bits"),
    ("income", "1e4", "type", "a number"),
    ("income", False, "type", "a number"),
    ("income", -0.01, "min", "at least 0.0"),
    ("country", 7, "type", "text"),
    ("country", "ES", "allowed", "one of 'DE', 'FR', 'IT'"),
    ("country", "'; DROP TABLE loans; --", "allowed", "one of 'DE', 'FR', 'IT'"),
    ("country", "{{ 7 * 7 }}", "allowed", "one of 'DE', 'FR', 'IT'"),
    ("country", "${jndi:ldap://x}", "allowed", "one of 'DE', 'FR', 'IT'"),
    ("opened", "yesterday", "type", "a date as in ISO 8601, 2026-11-23"),
    ("opened", "2001-02-29", "type", "a date as in ISO 8601, 2026-11-23"),
    ("opened", "2001-05-06T10:00:00Z", "type", "a date as in ISO 8601, 2026-11-23"),
    ("opened", 989107200000, "type", "a date as in ISO 8601, 2026-11-23"),
]


@pytest.mark.parametrize(("column", "cell", "rule", "expected"), CELLS, ids=str)
def test_a_cell_that_breaks_a_rule_is_named_with_what_was_expected(
    service: Serving, column: str, cell: Any, rule: str, expected: str
) -> None:
    before = service.metric("etl_ml_serve_refused_total", reason=rule)
    reply = service.post({"rows": [GOOD, row(**{column: cell}), GOOD]})
    told = reply.json
    assert reply.status == 422
    assert (told["row"], told["column"], told["expected"]) == (1, column, expected)
    assert told["error"].startswith(f"row 1, column {column!r}: ")
    assert set(told) == {"error", "row", "column", "value", "expected"}
    assert service.metric("etl_ml_serve_refused_total", reason=rule) == before + 1


@pytest.mark.parametrize("count", [1, 1_000])
def test_the_same_is_said_of_one_row_and_of_many(service: Serving, count: int) -> None:
    rows = [*[GOOD] * (count - 1), row(age=17)]
    told = service.post(rows).json
    assert (told["row"], told["column"], told["value"]) == (count - 1, "age", "17")


def test_a_long_value_is_cut(service: Serving) -> None:
    reply = service.post([row(country="x" * 5_000)])
    assert reply.status == 422
    assert len(reply.body) < 500
    assert len(reply.json["value"]) == 80


@pytest.mark.parametrize(
    ("rows", "said", "nearest"),
    [
        ([row(age=..., agge=30)], "column 'age' is missing", "agge"),
        ([GOOD, row(income=..., incom=1.0)], "row 1, column 'income' is missing", "incom"),
        ([{}], "column 'age' is missing", None),
        ([row(xyz="red")], "'xyz' is no column of the model", None),
        ([row(ages=30)], "'ages' is no column of the model", "age"),
        ([GOOD, row(xyz="red")], "'xyz' is no column of the model", None),
    ],
    ids=str,
)
def test_missing_and_unknown_columns_are_named_with_the_nearest(
    service: Serving, rows: Any, said: str, nearest: str | None
) -> None:
    reply = service.post(rows)
    assert reply.status == 422
    assert said in reply.json["error"]
    assert reply.json.get("nearest") == nearest


def test_unknown_columns_are_dropped_where_that_is_said(loans_lake: Path) -> None:
    with serving(loans_lake, "loans", "--unknown-columns", "drop") as service:
        assert service.post([row(xyz="red")]).status == 200
        assert service.post([row(age=..., agge=3)]).json["nearest"] == "agge"


MALFORMED: dict[str, tuple[Any, str]] = {
    "nothing": (b"", "no JSON"),
    "half": (b'{"rows": [{"age":', "no JSON"),
    "NaN": (b'{"rows": [{"age": NaN}]}', "no JSON"),
    "Infinity": (b'{"rows": [{"age": -Infinity}]}', "no JSON"),
    "beyond a double": (b'{"rows": [{"income": 1e999}]}', "no JSON"),
    "no UTF-8": (b'{"rows": [{"age": "\xff"}]}', "no JSON"),
    "a lone surrogate": (b'{"rows": [{"age": "\\ud800"}]}', "no JSON"),
    "brackets": (b"[" * 100_000, "no JSON"),
    "braces": (b'{"a":' * 100_000, "no JSON"),
    "a number": (b"7", "neither a list nor an object"),
    "rows by number": ([[30, 1e4, "DE", "2001-05-06"]], "row 0 is no object"),
    "a list of numbers": ([1, 2], "row 0 is no object"),
    "rows that are no list": ({"rows": {}}, "the rows are no list"),
    "rows and more": ({"rows": [GOOD], "colour": 1}, "'colour' stands beside 'rows'"),
    "one row without a list": (GOOD, "column 'age' is no list of cells"),
    "columns of other lengths": (
        {"age": [30], "income": [1, 2], "country": ["DE"], "opened": [None]},
        "has 2 cells",
    ),
    "a short row": ({"columns": list(GOOD), "data": [[1, 2]]}, "not one cell for each column"),
    "a column twice": ({"columns": ["age", "age"], "data": [[1, 2]]}, "names a column twice"),
    "columns without data": ({"columns": list(GOOD)}, "column 'age' is missing"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_body_of_no_known_form_is_refused(service: Serving, kind: str) -> None:
    body, said = MALFORMED[kind]
    reply = service.post(body)
    assert said in reply.json["error"]
    assert reply.status in (400, 422)
    assert len(reply.body) < 500


@pytest.mark.parametrize("rows", [[], {"rows": []}, {"columns": list(GOOD), "data": []}], ids=str)
def test_no_rows_are_refused(service: Serving, rows: Any) -> None:
    assert (service.post(rows).status, service.post(rows).json["error"]) == (
        422,
        "there are no rows.",
    )


TABLES: dict[str, tuple[bytes, str, str]] = {
    "csv: a short row": (b"age,income,country,opened\n1,2\n", "text/csv", "row 0 has 2 cells"),
    "csv: a quote": (b'age,income\n"1,2\n', "text/csv", "no CSV"),
    "csv: no UTF-8": (b"\xff\xfe", "text/csv", "no UTF-8"),
    "csv: too few columns": (b"1,2\n", "text/csv", "holds no column's name"),
    "csv: a column twice": (b"age,age\n1,2\n", "text/csv", "names a column twice"),
    "csv: nothing": (b"", "text/csv", "no rows"),
    "csv: NaN": (b"age,income,country,opened\n30,NaN,DE,\n", "text/csv", "'NaN' is not a number"),
    "csv: text": (b"age,income,country,opened\nx,1,DE,\n", "text/csv", "'x' is not a whole"),
    "parquet: magic only": (b"PAR1", "application/octet-stream", "no sound Parquet"),
    "parquet: cut": (parquet()[:-40], "application/vnd.apache.parquet", "no sound Parquet"),
    "parquet: nested": (parquet(age=[[1]]), "application/octet-stream", "is not a whole number"),
    "parquet: wrong": (parquet(age=[17]), "application/octet-stream", "17 is not at least 18"),
    "parquet: a date": (parquet(age=[date(2020, 1, 1)]), "application/octet-stream", "'age'"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_are_refused_with_a_reason(service: Serving, kind: str) -> None:
    body, media_type, said = TABLES[kind]
    reply = service.post(body, kind=media_type)
    assert reply.status in (400, 422), reply.body
    assert said in reply.json["error"]


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/xml", "application/octet-stream", "text/csv; charset=utf-16", "x"],
)
def test_another_type_of_body_is_415(service: Serving, kind: str) -> None:
    assert service.post(b"a,b\n1,2\n", kind=kind).status == 415


def test_a_packed_body_is_415(service: Serving) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert service.ask("POST", "/invocations", b"\x1f\x8b", headers).status == 415


INFERENCES: dict[str, tuple[Any, str]] = {
    "no inputs": ({}, "no list of `inputs`"),
    "no object": ({"inputs": [1]}, "is no object"),
    "no data": ({"inputs": [{"name": "age", "datatype": "INT64", "shape": [1]}]}, "no `data`"),
    "another shape": (
        {"inputs": [{"name": "age", "datatype": "INT64", "shape": [2], "data": [1]}]},
        "another shape",
    ),
    "another type": (
        {"inputs": [{"name": "age", "datatype": "BYTES", "shape": [1], "data": ["1"]}]},
        "'age' is 'BYTES'",
    ),
    "missing": (
        {"inputs": [{"name": "age", "datatype": "INT64", "shape": [1], "data": [30]}]},
        "column 'income' is missing",
    ),
    "an unknown output": ({"inputs": [], "outputs": [{"name": "x"}]}, "no output 'x'"),
    "an id that is none": ({"inputs": [], "id": 7}, "`id` is no text"),
}


@pytest.mark.parametrize("kind", INFERENCES)
def test_requests_of_the_open_inference_protocol_are_refused_with_a_reason(
    service: Serving, kind: str
) -> None:
    body, said = INFERENCES[kind]
    reply = service.post(body, "/v2/models/loans/infer")
    assert reply.status in (400, 422)
    assert said in reply.json["error"]


def test_too_many_rows_are_refused_in_every_format(loans_lake: Path) -> None:
    three = [GOOD] * 3
    lines = "age,income,country,opened\n" + "30,1,DE,2001-05-06\n" * 3
    table = io.BytesIO()
    pl.DataFrame(three).write_parquet(table)
    with serving(loans_lake, "loans", "--max-rows", "2") as service:
        assert service.post([GOOD, GOOD]).status == 200
        replies = [
            service.post(three),
            service.post({name: [cell] * 3 for name, cell in GOOD.items()}),
            service.post({"columns": list(GOOD), "data": [list(GOOD.values())] * 3}),
            service.post(lines.encode(), kind="text/csv"),
            service.post(table.getvalue(), kind="application/octet-stream"),
        ]
    assert [reply.status for reply in replies] == [422] * 5
    assert all("up to 2 rows" in json.loads(reply.body)["expected"] for reply in replies)
