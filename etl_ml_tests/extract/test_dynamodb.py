from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from etl_ml.extract import aws as module
from etl_ml.extract.dynamodb import open_dynamodb
from etl_ml.extract.source_error import SourceError
from etl_ml.lake.backoff import Backoff
from etl_ml.lake.identity import ORIGINAL
from etl_ml.lake.stores import StoreSettings
from etl_ml.spec.contract import Contract
from etl_ml.spec.source import DynamoSource
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.http import Answer, Http, Request, as_json
from etl_ml_tests.servers.process import free_ports

CONTRACT = Contract.model_validate(
    {
        "unknown_columns": "drop",
        "columns": {n: {"type": "string"} for n in ("id", "n", "s", "m", "m.a", "b", "t")},
    }
)


def read(contract: Contract, settings: StoreSettings | None = None, **source: Any) -> pa.Table:
    reader = open_dynamodb(
        DynamoSource.model_validate({"type": "dynamodb", **source}), contract, settings
    )
    return pa.Table.from_batches(list(reader), reader.schema)


@pytest.fixture
def credentials(dynamodb: DynamoDB, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in dynamodb.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("credentials")
def test_every_kind_of_value_is_its_exact_text(dynamodb: DynamoDB) -> None:
    table = dynamodb.table()
    precise = Decimal("12345678901234567890.123456789012345678")
    table.put_item(
        Item={
            **{"id": "1", "n": precise, "s": {Decimal(2), Decimal(1)}, "b": b"\x00\xff"},
            **{"m": {"a": [Decimal("1.5"), None]}, "t": True, "more": 1},
        }
    )
    (row,) = read(CONTRACT, table=table.name).to_pylist()
    assert row == {
        **{"id": "1", "n": str(precise), "s": "[1, 2]", "b": "AP8=", "t": "true"},
        **{"m": '{"a": [1.5, null]}', "m.a": "[1.5, null]", ORIGINAL: None},
    }


@pytest.mark.usefixtures("credentials")
def test_segments_together_give_each_item_once(dynamodb: DynamoDB) -> None:
    table = dynamodb.table()
    with table.batch_writer() as writer:
        for number in range(1500):
            writer.put_item(Item={"id": str(number), "s": "x" * 2000})
    found = read(CONTRACT, table=table.name, segments=3)["id"].to_pylist()
    assert sorted(map(int, found)) == list(range(1500))


@pytest.mark.usefixtures("credentials")
def test_a_table_that_is_not_there_is_named(dynamodb: DynamoDB) -> None:
    table = dynamodb.table()
    with pytest.raises(SourceError, match="no such table") as raised:
        read(CONTRACT, table=table.name + "x")
    assert raised.value.close is not None


Fault = Callable[[Request], Answer | None]


class Between:
    """A server between client and DynamoDB: pages of 10 items, and a fault where a test wants it.

    `fault` sees each Scan before DynamoDB does; where it gives an answer, that is the answer.
    """

    def __init__(self, server: Http, dynamodb: DynamoDB) -> None:
        self.fault: Fault = lambda request: None
        self.endpoint, self._port, self._server = server.url, dynamodb.port, server
        server.routes["/"] = self._answer

    @property
    def scans(self) -> list[Request]:
        return [r for r in self._server.requests if _is_scan(r)]

    def _answer(self, request: Request) -> Answer:
        body = request.body
        if _is_scan(request):
            if answer := self.fault(request):
                return answer
            body = json.dumps({**request.json(), "Limit": 10}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        dropped = ("host", "content-length", "connection")
        headers = {k: v for k, v in request.headers.items() if k not in dropped}
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        return answer.status, {"Content-Type": "application/x-amz-json-1.0"}, answer.read()


def _is_scan(request: Request) -> bool:
    return request.headers.get("x-amz-target", "").endswith(".Scan")


def refused(code: str, message: str = "no", status: int = 400) -> Answer:
    """As DynamoDB says it."""
    return as_json(
        {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}, status
    )


@pytest.fixture
def between(http: Http, dynamodb: DynamoDB, credentials: None) -> Between:
    return Between(http, dynamodb)


@pytest.fixture
def hundred(dynamodb: DynamoDB) -> str:
    """A table of 100 items, `id` from 0."""
    table = dynamodb.table()
    with table.batch_writer() as writer:
        for number in range(100):
            writer.put_item(Item={"id": str(number)})
    return str(table.name)


def ids(between: Between, table: str, **source: Any) -> list[int]:
    found = read(CONTRACT, table=table, endpoint=between.endpoint, **source)
    return sorted(map(int, found["id"].to_pylist()))


def refusal(**source: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(CONTRACT, **source)
    assert caught.value.fix
    assert "the-secret" not in str(caught.value)
    return caught.value


def test_a_throttled_scan_goes_on_where_it_was(between: Between, hundred: str) -> None:
    faults = iter([refused("ProvisionedThroughputExceededException")] * 5)
    # Three attempts are the client's own; five on one page are ours.
    between.fault = lambda r: next(faults, None) if "ExclusiveStartKey" in r.json() else None
    assert ids(between, hundred, segments=1) == list(range(100))
    # Ten pages, perhaps an empty one behind them, and the five that were refused.
    assert len(between.scans) in (15, 16)


@pytest.mark.parametrize(
    "broken",
    [
        (500, {}, b""),
        (503, {}, b"<html>busy</html>"),
        refused("InternalServerError", status=500),
        # Cut short, by more than the client waits for.
        (200, {"Content-Length": "100000"}, b'{"Items": [{"id"'),
    ],
)
def test_a_server_that_is_lost_in_the_middle_loses_and_doubles_no_item(
    between: Between, hundred: str, broken: Answer
) -> None:
    back: list[float] = []

    def fault(request: Request) -> Answer | None:
        if len(between.scans) < 5:
            return None
        back[:] = back or [time.monotonic() + 1.5]
        return broken if time.monotonic() < back[0] else None

    between.fault = fault
    assert ids(between, hundred, segments=3) == list(range(100))
    assert back


def test_connections_that_end_without_an_answer_are_made_again(
    between: Between, hundred: str
) -> None:
    left = list(range(5))

    def fault(request: Request) -> Answer | None:
        if "ExclusiveStartKey" in request.json() and left:
            left.pop()
            raise ConnectionAbortedError
        return None

    between.fault = fault
    assert ids(between, hundred, segments=1) == list(range(100))
    assert not left


def test_a_table_that_stays_throttled_is_told(
    between: Between, hundred: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Backoff", lambda patience=0.0: Backoff(0.5))
    between.fault = lambda request: refused("ThrottlingException", "Rate exceeded")
    told = refusal(table=hundred, endpoint=between.endpoint)
    assert "too busy" in told.what
    assert told.seen == "'ThrottlingException: Rate exceeded'"


def test_credentials_that_expire_in_the_middle_are_told_at_once(
    between: Between, hundred: str
) -> None:
    between.fault = lambda r: (
        refused("ExpiredTokenException", "The security token included in the request is expired")
        if "ExclusiveStartKey" in r.json()
        else None
    )
    told = refusal(table=hundred, endpoint=between.endpoint, segments=1)
    assert "expired" in told.what
    assert len(between.scans) == 2
    assert not [t for t in threading.enumerate() if "_segment" in t.name]


def test_a_wrong_signature_shows_nothing_of_the_request(between: Between, hundred: str) -> None:
    message = "It does not match.\n\nThe Canonical String:\nx-amz-security-token:the-secret-token"
    between.fault = lambda request: refused("InvalidSignatureException", message)
    told = refusal(table=hundred, endpoint=between.endpoint)
    assert "secret key is wrong" in told.what
    assert told.seen == "'InvalidSignatureException: It does not match.'"


def test_a_read_that_is_given_up_leaves_no_thread(between: Between, hundred: str) -> None:
    source = DynamoSource(type="dynamodb", table=hundred, endpoint=between.endpoint, segments=4)
    reader = open_dynamodb(source, CONTRACT, None)
    batches = iter(reader)
    assert next(batches).num_rows
    batches.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if "_segment" in t.name]
    assert sum(batch.num_rows for batch in reader) == 100


def test_a_resource_gives_its_credentials_and_keeps_its_endpoint_for_s3(
    between: Between, hundred: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    settings = StoreSettings(
        endpoint="http://127.0.0.1:9", region="us-east-1", key="another", secret="s", token="t"
    )
    found = read(CONTRACT, settings, table=hundred, endpoint=between.endpoint)
    assert found.num_rows == 100
    for request in between.scans:
        assert "Credential=another/" in request.headers["authorization"]
        assert "/us-east-1/" in request.headers["authorization"]
        assert request.headers["x-amz-security-token"] == "t"


def test_without_credentials_it_says_so(
    dynamodb: DynamoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    told = refusal(table="t", region="us-east-1", endpoint=dynamodb.endpoint)
    assert "no credentials" in told.what
    told = refusal(table="t", endpoint=dynamodb.endpoint)
    assert told.where == "source.region"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "no such profile" in refusal(table="t", endpoint=dynamodb.endpoint).what


@pytest.mark.usefixtures("credentials")
def test_an_unknown_host_is_told_soon() -> None:
    start = time.monotonic()
    told = refusal(table="t", endpoint="http://user:the-secret@dynamodb.nowhere.invalid")
    assert "http://dynamodb.nowhere.invalid cannot be reached" in told.what
    assert told.where == "source.endpoint"
    assert time.monotonic() - start < 9
    assert refusal(table="t", endpoint="nonsense").where == "source.endpoint"


@pytest.mark.usefixtures("credentials")
def test_a_server_that_is_not_there_is_told() -> None:
    told = refusal(table="t", endpoint=f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "cannot be reached" in told.what
