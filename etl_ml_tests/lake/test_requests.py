"""How often a store is asked, counted by a proxy in front of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest

from etl_ml.lake import Contents, Lake
from etl_ml.lake.manifest import Manifest
from etl_ml_tests.servers.proxy import Proxy
from etl_ml_tests.servers.wire_proxy import WireProxy

LAST = 100_000

Proxied = tuple[Lake, Proxy | WireProxy]


def asked(proxy: Proxy | WireProxy) -> list[Any]:
    return proxy.commands if isinstance(proxy, WireProxy) else proxy.requests


def put_version(lake: Lake, number: int) -> None:
    version = f"{number:010d}"
    manifest = Manifest("p", "a", version, "", "", "", {}, None, ())
    lake.backend.put(f"{manifest.folder}/claim.json", b"{}")
    lake.backend.put(f"{manifest.folder}/manifest.json", manifest.dump())


@pytest.fixture
def grown(proxied: Proxied) -> Proxied:
    """A lake whose asset has come to its hundred thousandth version."""
    lake, proxy = proxied
    for number in range(LAST - 3, LAST + 1):
        put_version(lake, number)
    lake.backend.put("p/files/a/latest", b"%010d" % LAST)
    asked(proxy).clear()
    return lake, proxy


def test_the_newest_version_takes_three_requests(grown: Proxied) -> None:
    lake, proxy = grown
    assert lake.latest("p", "a") == f"{LAST:010d}"
    assert len(asked(proxy)) <= 3
    asked(proxy).clear()
    assert lake.open("p", "a").version == f"{LAST:010d}"
    assert len(asked(proxy)) <= 3


@pytest.mark.parametrize("behind", [1, 2, 3])
def test_a_hint_that_is_behind_is_followed_upward(grown: Proxied, behind: int) -> None:
    lake, proxy = grown
    lake.backend.put("p/files/a/latest", b"%010d" % (LAST - behind))
    asked(proxy).clear()
    assert lake.latest("p", "a") == f"{LAST:010d}"
    assert len(asked(proxy)) <= 3 + 2 * behind


@pytest.mark.parametrize("hint", [b"9999999999", b"0000000001", b"", b"x" * 4000, None], ids=str)
def test_a_hint_is_not_believed(grown: Proxied, hint: bytes | None) -> None:
    lake, _ = grown
    if hint is None:
        lake.backend.delete("p/files/a/latest")
    else:
        lake.backend.put("p/files/a/latest", hint)
    assert lake.latest("p", "a") == f"{LAST:010d}"
    assert lake.claim("p", "a").version == f"{LAST + 1:010d}"


@pytest.mark.parametrize("proxied", ["s3", "azure"], indirect=True)
def test_a_commit_takes_five_requests_beyond_its_data(grown: Proxied) -> None:
    lake, proxy = grown
    assert isinstance(proxy, Proxy)
    rows = pl.LazyFrame({"x": [1], "l": [["a"]]})
    files = {"x.json": {"x": 1}, "y.npy": np.arange(3)}
    lake.write("p", "a", Contents(rows, files))  # makes the table
    for _ in range(40):
        proxy.requests.clear()
        lake.write("p", "a", Contents(rows, files))
        asked_for = [(how, unquote(path)) for how, path in proxy.requests]
        own = ("x.json", "y.npy", "/tables/a/")
        assert len([path for _, path in asked_for if not any(o in path for o in own)]) == 5
        # The table: its rows, and one entry of its log read and one written.
        table = [how for how, path in asked_for if "/tables/a/" in path]
        assert table == ["GET", "PUT", "PUT"]


@pytest.mark.parametrize("proxied", ["s3", "azure"], indirect=True)
def test_reading_a_table_does_not_read_its_log(grown: Proxied) -> None:
    lake, proxy = grown
    assert isinstance(proxy, Proxy)
    for number in range(30):
        lake.write("p", "a", Contents(pl.LazyFrame({"x": [number]})))
    version = lake.open("p", "a")
    proxy.requests.clear()
    assert version.table.to_polars()["x"].to_list() == [29]
    log = [path for _, path in proxy.requests if "_delta_log" in path]
    assert len(log) == 1
    assert len(proxy.requests) <= 5
