"""Files here and in object stores: whole, once, and without a trace of what went wrong."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl_ml.lake import Lake
from etl_ml.lake.stores import StoreSettings
from etl_ml.load.load_error import LoadError
from etl_ml_tests.load.loading import frame, taken, version
from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.s3 import S3

ROWS = frame(1_000)
WRONG = "d3Jvbmctc2VjcmV0LWtleQ=="


@dataclass
class Bucket:
    """A fresh bucket, read by the provider's own client."""

    url: str
    settings: StoreSettings
    read: Callable[[str], bytes]
    names: Callable[[], list[str]]


def s3_bucket(server: S3) -> Bucket:
    name, client = server.bucket(), server.client()
    return Bucket(
        f"s3://{name}",
        StoreSettings(server.endpoint, server.region, server.key, server.secret),
        lambda key: client.get_object(Bucket=name, Key=key)["Body"].read(),
        lambda: [o["Key"] for o in client.list_objects_v2(Bucket=name).get("Contents", ())],
    )


def azure_container(server: Azurite) -> Bucket:
    name = server.container()
    client = server.client().get_container_client(name)
    return Bucket(
        f"az://{name}",
        StoreSettings(endpoint=server.url, key=server.account, secret=server.key),
        lambda key: client.download_blob(key).readall(),
        lambda: list(client.list_blob_names()),
    )


@pytest.fixture(params=["s3", "azurite"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    server = request.getfixturevalue(request.param)
    return s3_bucket(server) if isinstance(server, S3) else azure_container(server)


def as_rows(name: str, data: bytes) -> pl.DataFrame:
    """Decoded by other means than they were written."""
    if name.endswith("parquet"):
        return pl.read_parquet(io.BytesIO(data))
    if name.endswith("csv.gz"):
        return pl.read_csv(io.BytesIO(gzip.decompress(data)))
    return pl.DataFrame([json.loads(line) for line in data.splitlines()])


@pytest.mark.parametrize("name", ["to/rows.parquet", "rows.csv.gz", "rows.jsonl"])
def test_an_object_comes_back_as_it_was(lake: Lake, bucket: Bucket, name: str) -> None:
    of = version(lake, ROWS)
    for _ in range(2):
        done = taken(of, bucket.settings, type="file", path=f"{bucket.url}/{name}")
    assert bucket.names() == [name]
    data = bucket.read(name)
    assert as_rows(name, data).sort("id").rows() == ROWS.rows()
    assert done.bytes == len(data)


def test_appending_a_version_again_leaves_its_part_as_it_is(lake: Lake, bucket: Bucket) -> None:
    of, more = version(lake, ROWS), version(lake, frame(10, "more"))
    keys = {"type": "file", "path": f"{bucket.url}/parts", "mode": "append", "format": "jsonl"}
    taken(of, bucket.settings, **keys)
    before = bucket.read(f"parts/part-{of.version}.jsonl")
    taken(more, bucket.settings, **keys)
    taken(of, bucket.settings, **keys)
    assert bucket.read(f"parts/part-{of.version}.jsonl") == before
    assert sorted(bucket.names()) == [f"parts/part-{v.version}.jsonl" for v in (of, more)]


def test_a_part_that_is_there_is_not_written_over(lake: Lake, tmp_path: Path) -> None:
    of = version(lake, ROWS)
    part = tmp_path / "to" / f"part-{of.version}.parquet"
    part.parent.mkdir()
    part.write_bytes(b"theirs")
    taken(of, type="file", path=str(part.parent), mode="append")
    assert part.read_bytes() == b"theirs"
    assert [p.name for p in part.parent.iterdir()] == [part.name]


def test_a_wrong_key_is_told_without_it(lake: Lake, bucket: Bucket) -> None:
    wrong = replace(bucket.settings, secret=WRONG)
    with pytest.raises(LoadError, match="cannot be written") as error:
        taken(version(lake, ROWS), wrong, type="file", path=f"{bucket.url}/rows.parquet")
    assert WRONG not in str(error.value)
    assert bucket.names() == []


def test_a_container_that_is_not_there_is_told(lake: Lake, azurite: Azurite) -> None:
    to = azure_container(azurite)
    with pytest.raises(LoadError, match="cannot be written"):
        taken(version(lake, ROWS), to.settings, type="file", path=f"{to.url}-x/r.parquet")


def test_a_key_that_may_only_read_is_told(lake: Lake, s3: S3) -> None:
    to = s3_bucket(s3)
    reader = replace(to.settings, key=s3.reader_key, secret=s3.reader_secret)
    with pytest.raises(LoadError, match="cannot be written") as error:
        taken(version(lake, ROWS), reader, type="file", path=f"{to.url}/rows.parquet")
    assert s3.reader_secret not in str(error.value)
    assert to.names() == []


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv.gz"])
def test_a_version_without_rows_is_a_file_with_its_columns(
    lake: Lake, tmp_path: Path, name: str
) -> None:
    taken(version(lake, ROWS.clear()), type="file", path=str(tmp_path / name))
    found = as_rows(name, (tmp_path / name).read_bytes())
    assert (found.columns, found.height) == (ROWS.columns, 0)


_WITH_A_FULL_DISK = """
import json, resource, sys
from etl_ml.lake import open_lake
from etl_ml.load.load_error import LoadError
from etl_ml_tests.load.loading import taken
given = json.loads(sys.argv[1])
of = open_lake(given["lake"]).open("p", "clean_data", given["version"])
of.table.scan()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    taken(of, type="file", path=given["path"])
except LoadError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.csv.gz", "rows.jsonl"])
def test_a_full_disk_leaves_the_last_file(lake: Lake, tmp_path: Path, name: str) -> None:
    path = tmp_path / "to" / name
    taken(version(lake, frame(20)), type="file", path=str(path))
    before = path.read_bytes()
    of = version(lake, ROWS.with_columns(amount=pl.col("id").hash().cast(pl.Float64)))
    what: dict[str, Any] = {"lake": lake.url, "version": of.version, "path": str(path)}
    command = [sys.executable, "-c", _WITH_A_FULL_DISK, json.dumps(what)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "cannot be written: File too large" in ended.stdout, ended.stderr
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [name]
