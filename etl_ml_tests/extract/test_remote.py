"""Files in S3, Azure Blob, Google Cloud Storage and on web servers."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import obstore
import polars as pl
import pyarrow as pa
import pytest

from etl_ml.extract import SourceError, extract
from etl_ml.extract.file import list_files
from etl_ml.lake import Lake
from etl_ml.lake.stores import StoreSettings, open_store
from etl_ml.spec.source import FileSource
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import grown, raw
from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.gcs import Gcs
from etl_ml_tests.servers.http import Http
from etl_ml_tests.servers.s3 import S3

Put = Callable[[str, bytes], str]


@pytest.fixture(params=["s3", "az", "gs"])
def put(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Writes an object to a fresh bucket; returns the bucket's URL."""
    fixture = {"s3": "s3", "az": "azurite", "gs": "gcs"}[request.param]
    server: S3 | Azurite | Gcs = request.getfixturevalue(fixture)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = server.container() if isinstance(server, Azurite) else server.bucket()
    url = f"{request.param}://{bucket}"

    def write(name: str, data: bytes) -> str:
        if isinstance(server, Gcs):
            server.put(bucket, name, data)
        else:
            obstore.put(open_store(url + "/x")[0], name, data)
        return url

    return write


def read(path: str, settings: StoreSettings | None = None) -> pl.DataFrame:
    found = extract(FileSource(type="file", path=path), base=Path(), settings=settings)
    frame = pl.DataFrame(pa.Table.from_batches(list(found.rows), found.rows.schema))
    assert frame["_etl_ml_row"].n_unique() == frame.height
    return frame.drop("_etl_ml_row", "_etl_ml_original")


def refusal(path: str, settings: StoreSettings | None = None) -> str:
    start = time.monotonic()
    with pytest.raises(SourceError) as caught:
        read(path, settings)
    assert time.monotonic() - start < 30
    message = str(caught.value)
    assert "secret" not in message
    return message


def test_one_file_a_glob_and_a_folder(put: Put) -> None:
    url = put("in/a.csv", b"a,b\n1,x\n")
    put("in/b.csv.gz", gzip.compress(b"b,a\ny,2\n"))
    put("in/deep/c.csv", b"a,b\n3,z\n")
    put("in/_SUCCESS", b"x")
    put("other.csv", b"q\n1\n")
    one, two, three = ({"a": str(i + 1), "b": "xyz"[i]} for i in range(3))
    assert read(f"{url}/in/a.csv").to_dicts() == [one]
    assert read(f"{url}/in/*.csv*").to_dicts() == [one, two]
    assert read(f"{url}/in/**/*.csv").to_dicts() == [one, three]
    assert read(f"{url}/in/[ab].csv").to_dicts() == [one]
    assert read(f"{url}/in").to_dicts() == read(f"{url}/in/").to_dicts() == [one, two]


def test_every_format_is_read(put: Put) -> None:
    url = put("a.jsonl", b'{"a": 1}\n{"a": 2}\n')
    frame = pl.DataFrame({"a": [1, 2]})
    import io

    sink = io.BytesIO()
    frame.write_parquet(sink)
    put("a.parquet", sink.getvalue())
    assert read(f"{url}/a.jsonl")["a"].to_list() == ["1", "2"]
    assert read(f"{url}/a.parquet")["a"].to_list() == [1, 2]


def test_what_is_not_there_is_named(put: Put) -> None:
    url = put("in/a.csv", b"a\n1\n")
    assert "no file matches" in refusal(f"{url}/in/*.parquet")
    assert "no file matches" in refusal(f"{url}/nowhere/b.csv")
    put("in/short.csv", b"a,b\n1,2\n3\n")
    message = refusal(f"{url}/in/short.csv")
    assert f"{url}/in/short.csv: line 3: 1 cells, the header has 2" in message
    assert "differ from those of" in refusal(f"{url}/in/*.csv")


def test_new_and_changed_objects_are_known_by_their_tags(put: Put, lake: Lake) -> None:
    url = put("in/a.csv", b"id,age,defaulted\n1,10,0\n")
    columns = {name: {"type": "integer"} for name in ("id", "age", "defaulted")}
    pipeline = make_pipeline(
        source={"path": f"{url}/in/*.csv", "incremental": {}},
        contract={"columns": columns, "primary_key": ["id"]},
    )
    grown(lake, pipeline, Path())
    put("in/b.csv", b"id,age,defaulted\n2,20,0\n")
    grown(lake, pipeline, Path())
    grown(lake, pipeline, Path())
    assert raw(lake, pipeline)["id"].sort().to_list() == ["1", "2"]
    put("in/a.csv", b"id,age,defaulted\n1,11,0\n")
    grown(lake, pipeline, Path())
    assert sorted(raw(lake, pipeline)["age"].to_list()) == ["10", "11", "20"]


def test_a_wrong_key_and_an_unknown_bucket_are_told_apart(s3: S3) -> None:
    bucket = s3.bucket()
    good = StoreSettings(s3.endpoint, s3.region, s3.key, s3.secret)
    bad = StoreSettings(s3.endpoint, s3.region, "nobody", "secretsecret")
    assert "the store refuses access (InvalidAccessKeyId)" in refusal(f"s3://{bucket}/*.csv", bad)
    assert "the store refuses access (403" in refusal(f"s3://{bucket}/a.csv", bad)
    wrong = StoreSettings(s3.endpoint, s3.region, s3.key, "secretsecret")
    assert "the store refuses access (" in refusal(f"s3://{bucket}/*.csv", wrong)
    assert "NoSuchBucket" in refusal("s3://nowhere-at-all/*.csv", good)
    gone = StoreSettings("http://127.0.0.1:1", "eu-1", "k", "secretsecret")
    assert "no server answers" in refusal("s3://b/a.csv", gone)


def test_a_wrong_azure_key_is_told_without_it(azurite: Azurite) -> None:
    settings = StoreSettings(azurite.url, None, azurite.account, "c2VjcmV0c2VjcmV0")
    assert "the store refuses access" in refusal(f"az://{azurite.container()}/a.csv", settings)
    good = StoreSettings(azurite.url, None, azurite.account, azurite.key)
    assert "there is no such bucket or container" in refusal("az://nowhere/*.csv", good)


def test_no_aws_credentials_at_all_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert "there are no AWS credentials" in refusal("s3://b/a.csv")


def test_a_web_server_gives_one_file(http: Http) -> None:
    good = 200, {"ETag": '"x"'}, b"a\n1\n2\n"
    http.serve("/data.csv", good, (500, {}, b"busy"), good)
    url = f"{http.url}/data.csv?signature=secret"
    assert read(url)["a"].to_list() == ["1", "2"]
    assert len(http.requests) > 2
    source = FileSource(type="file", path=url)
    assert list_files(source, Path())[0].version == '"x"'
    assert "no such object" in refusal(f"{http.url}/none.csv?signature=secret")
    assert "a web server lists no files" in refusal(f"{http.url}/*.csv")
