"""Stores that fail, refuse, lose answers and go away: real servers behind a proxy that breaks."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl_ml.lake import Contents, Lake, Version, open_lake
from etl_ml.lake.backend import Unreachable
from etl_ml.lake.stores import StoreError, StoreSettings
from etl_ml.lake.verification import verify
from etl_ml.spec.error import EtlMlError
from etl_ml_tests.lake.conftest import REMOTE, behind_proxy
from etl_ml_tests.lake.test_growing import following, values
from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.guarded_mongodb import GuardedMongoDB
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.proxy import Proxy
from etl_ml_tests.servers.s3 import S3
from etl_ml_tests.servers.wire_proxy import WireProxy


def untouched(what: str, about: object) -> None:
    """No fault."""


def write(lake: Lake, value: int, pipeline: str = "p") -> Version:
    rows = pl.LazyFrame({"_etl_ml_row": [str(value)], "x": [value]})
    return lake.write(pipeline, "a", Contents(rows, {"x.json": {"x": value}}))


def value_of(lake: Lake, version: str, pipeline: str = "p") -> int:
    found = lake.open(pipeline, "a", version)
    (value,) = found.table.to_polars()["x"]
    assert found.read("x.json") == {"x": value}
    return int(value)


@pytest.mark.parametrize(
    ("proxied", "kind"),
    [(store, kind) for store in REMOTE[:2] for kind in ("500", "503", "reset", "lost")]
    + [("mongodb", "reset"), ("mongodb", "lost")],
    indirect=["proxied"],
)
def test_one_request_in_eight_that_fails_loses_nothing(
    proxied: tuple[Lake, Proxy | WireProxy], kind: Any
) -> None:
    lake, proxy = proxied
    chance = random.Random(3)
    broken: list[str] = []

    def fault(what: str, about: object) -> Any:
        if chance.random() < 1 / 8:
            broken.append(what)
            return kind
        return None

    proxy.fault = fault
    written = [write(lake, value).version for value in range(5)]
    for _ in range(3):
        lake.write("p", "raw_data", Contents(grow=following))
    assert len(broken) > 5
    assert [value_of(lake, version) for version in written] == list(range(5))
    assert lake.latest("p", "a") == written[-1]
    proxy.fault = untouched
    assert lake.versions("p", "a") == written
    assert values(lake) == [0, 1, 2]
    assert not verify(lake, "p").damage


def test_reading_goes_on_where_the_connection_broke(
    proxied: tuple[Lake, Proxy | WireProxy],
) -> None:
    lake, proxy = proxied
    rows = pl.LazyFrame({"_etl_ml_row": [f"{n}" for n in range(25_000)], "x": range(25_000)})
    array = np.arange(2_000_000)
    version = lake.write("p", "a", Contents(rows, {"x.npy": array}))
    count = 0

    def fault(what: str, about: object) -> Any:
        nonlocal count
        count += 1
        return "reset" if count % 3 == 0 else None

    proxy.fault = fault
    assert version.table.to_polars().sort("x").equals(rows.collect())
    np.testing.assert_array_equal(version.read("x.npy"), array)
    assert count > 3


@pytest.mark.parametrize(
    ("proxied", "kind"),
    [("s3", "503"), ("s3", "reset"), ("azure", "503"), ("azure", "reset"), ("mongodb", "reset")],
    indirect=["proxied"],
)
def test_a_store_that_stays_away_is_an_error_that_names_the_object_within_a_bound(
    proxied: tuple[Lake, Proxy | WireProxy], kind: Any
) -> None:
    lake, proxy = proxied
    is_mongodb = isinstance(proxy, WireProxy)
    parts = {  # of each pipeline one part fails, and is named
        "p": ("claim.json", "claim.json"),
        "q": ("lake.commits" if is_mongodb else "_delta_log", "q/tables/a"),
        "r": ("x.json", "x.json"),
        "s": ("manifest.json", "manifest.json"),
    }
    for pipeline in parts:
        write(lake, 1, pipeline)

    def fault(what: str, about: object) -> Any:
        writes = what in ("PUT", "insert", "findAndModify")
        said = str(about)
        fails = any(f"{p}/" in said and part in said for p, (part, _) in parts.items())
        return kind if writes and fails else None

    def refusal(pipeline: str) -> str:
        with pytest.raises(Unreachable) as caught:
            write(lake, 2, pipeline)
        return str(caught.value)

    proxy.fault = fault
    start = time.monotonic()
    with ThreadPoolExecutor(len(parts)) as pool:
        told = dict(zip(parts, pool.map(refusal, parts), strict=True))
    assert time.monotonic() - start < 75
    for pipeline, (_, named) in parts.items():
        assert named in told[pipeline]
        assert lake.url in told[pipeline]
    proxy.fault = untouched
    for pipeline in parts:
        assert lake.versions(pipeline, "a") == ["0000000001"]
        assert value_of(lake, write(lake, 3, pipeline).version, pipeline) == 3


def test_a_stall_of_half_a_minute_is_waited_for(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled: list[str] = []

    def stall(kind: str, proxy: Proxy | WireProxy) -> None:
        def fault(what: str, about: object) -> Any:
            first = kind not in stalled and what in ("PUT", "insert") and "manifest" in str(about)
            return stalled.append(kind) or 30.0 if first else None

        proxy.fault = fault

    stores = {kind: behind_proxy(kind, request, tmp_path, monkeypatch) for kind in REMOTE}
    for kind, (_, proxy) in stores.items():
        stall(kind, proxy)
    with ThreadPoolExecutor(len(stores)) as pool:
        lakes = [lake for lake, _ in stores.values()]
        found = list(pool.map(lambda lake: value_of(lake, write(lake, 1).version), lakes))
    assert found == [1, 1, 1]
    assert sorted(stalled) == sorted(REMOTE)
    for _, proxy in stores.values():
        proxy.close()


def test_an_expired_token_is_said_to_be_expired(
    proxied: tuple[Lake, Proxy | WireProxy],
) -> None:
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


def test_azure_names_a_signature_that_may_only_read_and_one_that_has_expired(
    azurite: Azurite,
) -> None:
    container = azurite.container()

    def lake(token: str) -> Lake:
        given = StoreSettings(endpoint=azurite.url, key=azurite.account, token=token)
        return open_lake(f"az://{container}/lake", given)

    write(lake(azurite.token("rwdlc")), 7)
    reader = azurite.token("rl")
    told = refused(lake(reader))
    assert "may not do this" in told
    assert reader not in told
    assert value_of(lake(reader), "1") == 7
    assert "credentials are refused" in refused(lake(azurite.token("rwdlc", hours=-1)))


def test_mongodb_names_a_wrong_password_and_a_user_who_may_only_read(
    guarded_mongodb: GuardedMongoDB,
) -> None:
    write(open_lake(guarded_mongodb.uri_of("writer")), 7)
    told = refused(open_lake(guarded_mongodb.uri_of("writer", "wrong-password")))
    assert "credentials are refused" in told
    assert "wrong-password" not in told
    reader = open_lake(guarded_mongodb.uri_of("reader"))
    assert "may not do this" in refused(reader)
    assert value_of(reader, "1") == 7


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Root may write everywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_folder_names_what_the_system_says(as_nobody: None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lake")
        lake = open_lake(path)
        write(lake, 7)
        for inner in (path, *(p for p in path.rglob("*") if p.is_dir())):
            inner.chmod(0o555)
        told = refused(lake)
        assert "lake.json cannot be written: Permission denied." in told
        assert str(path) in told
        assert value_of(lake, "1") == 7
        with pytest.raises(Unreachable, match="folder cannot be made: Permission denied"):
            open_lake(path / "another")
        for inner in (path, *(p for p in path.rglob("*") if p.is_dir())):
            inner.chmod(0o755)


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


@pytest.mark.parametrize("place", ["", "below"])
def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "lake").touch()
    with pytest.raises(Unreachable, match=r"folder cannot be made: (Not a dir|File exists)") as e:
        open_lake(tmp_path / "lake" / place)
    assert e.value.where == str(tmp_path / "lake" / place)


@pytest.mark.parametrize(
    "url", ["s3://", "az://", "ftp://x/y", "s3:///prefix", "s3:/bucket/prefix", "mongodb:host/x"]
)
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(EtlMlError, match=r"no URL|cannot be opened"):
        open_lake(url)


def test_azure_without_an_account_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCOUNT_NAME", "ACCOUNT_KEY", "SAS_TOKEN", "ENDPOINT"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    with pytest.raises(StoreError, match="az://c/lake cannot be opened") as caught:
        open_lake("az://c/lake")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in str(caught.value)
