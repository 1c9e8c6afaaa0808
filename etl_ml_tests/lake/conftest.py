"""One lake on each backend."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from etl_ml.lake import Lake, open_lake
from etl_ml_tests.servers.proxy import Proxy
from etl_ml_tests.servers.wire_proxy import WireProxy

REMOTE = ("s3", "azure", "mongodb")
BACKENDS = ("local", *REMOTE)
_numbers = count()
_buckets: dict[str, str] = {}


@pytest.fixture(params=BACKENDS)
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A fresh lake, on each backend in turn."""
    return open_lake(place(request.param, request, tmp_path, monkeypatch))


@pytest.fixture
def local(tmp_path: Path) -> Lake:
    """A fresh lake in a folder, for what is of folders or of Delta Lake alone."""
    return open_lake(tmp_path / "lake")


def place(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The URL of a fresh lake, for which the environment is set."""
    if kind == "local":
        return str(tmp_path / "lake")
    server = request.getfixturevalue({"azure": "azurite"}.get(kind, kind))
    if kind == "mongodb":
        return f"{server.uri}/lake{next(_numbers)}"
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    # One bucket for all: SeaweedFS keeps volumes for each.
    if kind not in _buckets:
        _buckets[kind] = server.bucket() if kind == "s3" else server.container()
    scheme = "s3" if kind == "s3" else "az"
    return f"{scheme}://{_buckets[kind]}/some/prefix{next(_numbers)}"


def behind_proxy(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Lake, Proxy | WireProxy]:
    """A fresh lake whose store is reached through a proxy."""
    url = place(kind, request, tmp_path, monkeypatch)
    server = request.getfixturevalue({"azure": "azurite"}.get(kind, kind))
    if kind == "mongodb":
        wire = WireProxy(server.port)
        name = url.rpartition("/")[2]
        # The server tells its own address, which the driver would go to.
        return open_lake(f"mongodb://127.0.0.1:{wire.port}/{name}?directConnection=true"), wire
    proxy = Proxy(server.port)
    if kind == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    else:
        endpoint = f"http://127.0.0.1:{proxy.port}/{server.account}"
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
    return open_lake(url), proxy


@pytest.fixture(params=REMOTE)
def proxied(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Lake, Proxy | WireProxy]]:
    lake, proxy = behind_proxy(request.param, request, tmp_path, monkeypatch)
    yield lake, proxy
    proxy.close()
