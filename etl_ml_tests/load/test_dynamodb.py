"""DynamoDB that is busy, refuses, or has another key."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from etl_ml.lake import Lake
from etl_ml.lake.stores import StoreSettings
from etl_ml.load.load_error import LoadError
from etl_ml_tests.load.loading import frame, taken, version
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.http import Answer, Http, Request

SETTINGS = StoreSettings(region="us-east-1", key="tests", secret="hunter2")
ROWS = frame(230).with_columns(
    amount=pl.Series([0.1 + i / 7 for i in range(229)] + [None]),
    text=pl.when(pl.col("id") % 3 > 0).then(pl.lit("ü")),
)


class Busy:
    """A proxy before the service; `answers` are given first, for writes alone."""

    def __init__(self, http: Http, server: DynamoDB) -> None:
        self._server, self.refused = server, 0
        self.answers: Iterator[str] = iter(())
        http.routes["/"] = self._route

    def _route(self, request: Request) -> Answer:
        kind = {"Content-Type": "application/x-amz-json-1.0"}
        what = ""
        if request.headers["x-amz-target"].endswith("BatchWriteItem"):
            what = next(self.answers, "")
        self.refused += bool(what)
        if what.endswith("Exception"):
            body = {"__type": f"com.amazonaws.dynamodb.v20120810#{what}", "message": "busy"}
            return 400, kind, json.dumps(body).encode()
        if what == "none":
            return (
                200,
                kind,
                json.dumps({"UnprocessedItems": request.json()["RequestItems"]}).encode(),
            )
        if what == "half":
            ((table, puts),) = request.json()["RequestItems"].items()
            half = len(puts) // 2
            self._passed_on(request, json.dumps({"RequestItems": {table: puts[:half]}}).encode())
            return 200, kind, json.dumps({"UnprocessedItems": {table: puts[half:]}}).encode()
        return 200, kind, self._passed_on(request, request.body)

    def _passed_on(self, request: Request, body: bytes) -> bytes:
        names = ("x-amz-target", "content-type", "authorization", "x-amz-date")
        headers = {n: request.headers[n] for n in names if n in request.headers}
        asked = urllib.request.Request(self._server.endpoint, body, headers)
        with urllib.request.urlopen(asked) as answer:
            return bytes(answer.read())


def items(table: Any) -> dict[int, dict[str, Any]]:
    found, page = [], table.scan(ConsistentRead=True)
    found += page["Items"]
    while "LastEvaluatedKey" in page:
        page = table.scan(ExclusiveStartKey=page["LastEvaluatedKey"])
        found += page["Items"]
    return {int(item["id"]): item for item in found}


def test_a_busy_table_gets_every_item_in_the_end_and_exactly(
    lake: Lake, dynamodb: DynamoDB, http: Http
) -> None:
    table = dynamodb.table("id", "N")
    busy = Busy(http, dynamodb)
    throttled = "ProvisionedThroughputExceededException"
    busy.answers = iter([throttled, throttled, "none", "half", "", "half", "ThrottlingException"])
    of = version(lake, ROWS)
    done = taken(of, SETTINGS, type="dynamodb", table=table.name, endpoint=http.url)
    assert busy.refused == 6
    found = items(table)
    assert found.keys() == set(ROWS["id"])
    for row in ROWS.drop("_etl_ml_row").to_dicts():
        assert found[row["id"]] == {
            n: Decimal(repr(v)) if isinstance(v, float) else v
            for n, v in row.items()
            if v is not None
        }
    assert done.bytes > 0


def test_a_table_with_another_key_is_named(lake: Lake, dynamodb: DynamoDB) -> None:
    keys = {"type": "dynamodb", "endpoint": dynamodb.endpoint}
    other, text = dynamodb.table("customer"), dynamodb.table("id", "S")
    of = version(lake, ROWS)
    with pytest.raises(LoadError, match=r"table's key is \(customer\), the rows' is \(id\)"):
        taken(of, SETTINGS, table=other.name, **keys)
    with pytest.raises(LoadError, match="id is S"):
        taken(of, SETTINGS, table=text.name, **keys)
    assert items(other) == items(text) == {}


def test_two_rows_of_one_key_far_apart_are_told_before_anything_is_put(
    lake: Lake, dynamodb: DynamoDB
) -> None:
    table = dynamodb.table("id", "N")
    rows = frame(6_000).with_columns(id=pl.col("id").replace(5_999, 0))
    with pytest.raises(LoadError, match=r"two rows have one key \(id\)"):
        taken(
            version(lake, rows),
            SETTINGS,
            type="dynamodb",
            table=table.name,
            endpoint=dynamodb.endpoint,
        )
    assert items(table) == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"table": "missing"}, "there is no such table"),
        ({"endpoint": "http://no-such-host.invalid"}, "cannot be asked"),
    ],
)
def test_what_is_wrong_is_told_at_once(
    lake: Lake, dynamodb: DynamoDB, change: dict[str, str], told: str
) -> None:
    keys = {"type": "dynamodb", "table": "missing", "endpoint": dynamodb.endpoint, **change}
    with pytest.raises(LoadError, match=told) as error:
        taken(version(lake, ROWS), SETTINGS, **keys)
    assert "hunter2" not in str(error.value)
