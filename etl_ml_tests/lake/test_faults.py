"""Stores that fail, refuse, lose answers and go away: real servers behind a proxy that breaks."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl_ml.lake import Contents, Lake, Version, open_lake
from etl_ml.lake.backend import Unreachable
from etl_ml.lake.stores import StoreSettings
from etl_ml.lake.verification import verify
from etl_ml.spec.error import EtlMlError
from etl_ml_tests.lake.conftest import place
from etl_ml_tests.lake.test_growing import following, values
from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.proxy import Fault, Proxy
from etl_ml_tests.servers.s3 import S3


@pytest.fixture(params=["s3", "azure"])
def proxied(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Lake, Proxy]]:
    url = place(request.param, request, tmp_path, monkeypatch)
    server = request.getfixturevalue("s3" if request.param == "s3" else "azurite")
    proxy = Proxy(server.port)
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    else:
        endpoint = f"http://127.0.0.1:{proxy.port}/{server.account}"
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
    yield open_lake(url), proxy
    proxy.close()


def write(lake: Lake, value: int) -> Version:
    rows = pl.LazyFrame({"_etl_ml_row": [str(value)], "x": [value]})
    return lake.write("p", "a", Contents(rows, {"x.json": {"x": value}}))


def value_of(lake: Lake, version: str) -> int:
    found = lake.open("p", "a", version)
    (value,) = found.table.to_polars()["x"]
    assert found.read("x.json") == {"x": value}
    return int(value)


@pytest.mark.parametrize("kind", ["500", "503", "reset", "lost"])
def test_one_request_in_eight_that_fails_loses_nothing(
    proxied: tuple[Lake, Proxy], kind: Fault
) -> None:
    lake, proxy = proxied
    chance = random.Random(3)
    broken: list[str] = []

    def fault(method: str, path: str) -> Fault:
        if chance.random() < 1 / 8:
            broken.append(path)
            return kind
        return None

    proxy.fault = fault
    written = [write(lake, value).version for value in range(5)]
    for _ in range(3):
        lake.write("p", "raw_data", Contents(grow=following))
    assert len(broken) > 5
    assert [value_of(lake, version) for version in written] == list(range(5))
    assert lake.latest("p", "a") == written[-1]
    proxy.fault = lambda method, path: None
    assert lake.versions("p", "a") == written
    assert values(lake) == [0, 1, 2]
    assert not verify(lake, "p").damage


@pytest.mark.parametrize("kind", ["503", "reset"])
def test_a_store_that_stays_away_is_an_error_that_names_the_object_within_a_bound(
    proxied: tuple[Lake, Proxy], kind: Fault
) -> None:
    lake, proxy = proxied
    write(lake, 1)
    for part in ("claim.json", "_delta_log", "manifest.json"):

        def fault(method: str, path: str, part: str = part) -> Fault:
            return kind if method == "PUT" and part in path else None

        proxy.fault = fault
        start = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            write(lake, 2)
        assert time.monotonic() - start < 75
        named = "p/tables/a" if part == "_delta_log" else part
        assert named in str(caught.value)
        assert lake.url in str(caught.value)
    proxy.fault = lambda method, path: None
    assert lake.versions("p", "a") == ["0000000001"]
    assert value_of(lake, write(lake, 3).version) == 3


@pytest.mark.parametrize("proxied", ["s3"], indirect=True)
def test_a_stall_of_half_a_minute_is_waited_for(proxied: tuple[Lake, Proxy]) -> None:
    lake, proxy = proxied
    stalls: list[Fault] = [30.0]

    def fault(method: str, path: str) -> Fault:
        return stalls.pop() if stalls and method == "PUT" and "manifest" in path else None

    proxy.fault = fault
    assert value_of(lake, write(lake, 1).version) == 1
    assert not stalls


def test_a_commit_takes_five_requests_and_the_newest_version_three(
    proxied: tuple[Lake, Proxy],
) -> None:
    lake, proxy = proxied
    for number in range(3):
        lake.write("p", "a", Contents(files={"x.json": {"x": number}}))
    proxy.requests.clear()
    lake.write("p", "a", Contents(files={"x.json": {"x": 3}}))
    beside = [request for request in proxy.requests if "x.json" not in request[1]]
    assert len(beside) <= 5
    proxy.requests.clear()
    assert lake.latest("p", "a") == "0000000004"
    assert len(proxy.requests) <= 3


def test_an_expired_token_is_said_to_be_expired(proxied: tuple[Lake, Proxy]) -> None:
    lake, proxy = proxied
    proxy.fault = lambda method, path: "expired"
    with pytest.raises(Unreachable, match="the credentials have expired"):
        lake.check()


def refused(lake: Lake) -> str:
    """What is said before any work, and when a version is written all the same."""
    with pytest.raises(Unreachable) as first:
        lake.check()
    with pytest.raises(Unreachable):
        write(lake, 1)
    return str(first.value)


def test_s3_names_a_missing_bucket(dynamodb: DynamoDB) -> None:
    # SeaweedFS makes a bucket that is written to; moto, which has DynamoDB, does not.
    moto = StoreSettings(endpoint=dynamodb.endpoint, region="us-east-1", key="a", secret="b")
    lake = open_lake("s3://no-such-bucket/lake", moto)
    told = refused(lake)
    assert "no such bucket" in told
    assert "s3://no-such-bucket/lake" in told
    with pytest.raises(Unreachable, match="no such bucket"):
        lake.open("p", "a")


def test_s3_names_a_wrong_key_and_one_that_may_only_read(s3: S3) -> None:
    def settings(**changed: Any) -> StoreSettings:
        given = {"endpoint": s3.endpoint, "region": s3.region, "key": s3.key, "secret": s3.secret}
        return StoreSettings(**(given | changed))

    bucket = s3.bucket()
    wrong = open_lake(f"s3://{bucket}/lake", settings(secret="wrong-secret"))
    assert "credentials are refused" in refused(wrong)
    assert "wrong-secret" not in refused(wrong)
    reader = settings(key=s3.reader_key, secret=s3.reader_secret)
    assert "may not do this" in refused(open_lake(f"s3://{bucket}/lake", reader))
    write(open_lake(f"s3://{bucket}/lake", settings()), 7)
    assert value_of(open_lake(f"s3://{bucket}/lake", reader), "1") == 7


def test_azure_names_a_missing_container_and_a_wrong_key(azurite: Azurite) -> None:
    def settings(key: str = azurite.key) -> StoreSettings:
        return StoreSettings(endpoint=azurite.url, key=azurite.account, secret=key)

    container = azurite.container()
    assert "no such bucket or container" in refused(open_lake("az://missing/lake", settings()))
    wrong = azurite.key[:10] + "AAAA" + azurite.key[14:]
    told = refused(open_lake(f"az://{container}/lake", settings(wrong)))
    assert "credentials are refused" in told
    assert wrong not in told
    write(open_lake(f"az://{container}/lake", settings()), 7)


def test_mongodb_names_a_server_that_is_away_and_a_url_without_a_database() -> None:
    away = open_lake("mongodb://user:p%40ss@127.0.0.1:9/lake?serverSelectionTimeoutMS=300")
    told = refused(away)
    assert "server does not answer" in told
    assert "mongodb://127.0.0.1:9/lake" in told
    assert "p%40ss" not in told + away.url
    assert "p@ss" not in told
    with pytest.raises(EtlMlError, match="names no database"):
        open_lake("mongodb://127.0.0.1:9")
    with pytest.raises(EtlMlError, match="is no connection string") as caught:
        open_lake("mongodb://user:se@cret@127.0.0.1:9/lake")
    assert "cret" not in str(caught.value)


def test_a_mongodb_that_is_killed_in_the_middle_of_writes_keeps_what_was_committed(
    mongodb: MongoDB,
) -> None:
    lake = open_lake(f"{mongodb.uri}/killed?serverSelectionTimeoutMS=2000")
    done: list[str] = []
    told: list[str] = []

    def work() -> None:
        for value in range(10_000):
            try:
                done.append(write(lake, value).version)
            except Unreachable as error:
                told.append(str(error))
                return

    worker = threading.Thread(target=work)
    worker.start()
    while len(done) < 5:
        time.sleep(0.02)
    mongodb.kill()
    worker.join()
    assert "server does not answer" in told[0]
    mongodb.start()
    committed = lake.versions("p", "a")
    assert set(done) <= set(committed) <= {*done, f"{len(done) + 1:010d}"}
    for version in committed:
        value_of(lake, version)
    after = write(lake, 77)
    assert lake.latest("p", "a") == after.version
    assert not verify(lake, "p").damage


@pytest.mark.parametrize("url", ["s3://", "az://", "ftp://x/y", "s3:///prefix"])
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(EtlMlError, match=r"no URL|cannot be opened"):
        open_lake(url)
