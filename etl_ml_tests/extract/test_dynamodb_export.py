"""Exports as AWS writes them, on SeaweedFS."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from boto3.dynamodb.types import TypeSerializer

from etl_ml.extract.dynamodb import open_dynamodb
from etl_ml.extract.source_error import SourceError
from etl_ml.lake.identity import ORIGINAL
from etl_ml.lake.stores import StoreSettings
from etl_ml.spec.contract import Contract
from etl_ml.spec.source import DynamoSource
from etl_ml_tests.servers.s3 import S3

ID = "01693685827463-2d8752fd"
CONTRACT = Contract.model_validate(
    {
        "unknown_columns": "drop",
        "columns": {n: {"type": "string"} for n in ("id", "n", "s", "m.B", "B", "none")},
    }
)


class Folder:
    """An export `ID` under `AWSDynamoDB/` of a fresh bucket."""

    def __init__(self, server: S3, above: str = "exports/data/") -> None:
        self.client, self.bucket = server.client(), server.bucket()
        self.root = f"{above}AWSDynamoDB/{ID}"
        self.url = f"s3://{self.bucket}/{self.root}"

    def put(self, name: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"{self.root}/{name}", Body=body)

    def export(self, *files: Sequence[Mapping[str, Any]], **summary: Any) -> list[str]:
        """Items in DynamoDB's types, a file each; the files' names."""
        self.put("_started", b"")
        names, told = [], []
        for number, items in enumerate(files):
            lines = "".join(json.dumps({"Item": item}) + "\n" for item in items)
            body = gzip.compress(lines.encode())
            name = f"data/file{number}.json.gz"
            md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
            one = {"itemCount": len(items), "md5Checksum": md5, "etag": "x-1"}
            told.append(json.dumps({**one, "dataFileS3Key": f"{self.root}/{name}"}))
            self.put(name, body)
            names.append(name)
        self.put("manifest-files.json", "\n".join(told).encode())
        self.put("manifest-files.md5", b"x")
        whole = {
            **{"version": "2020-06-30", "outputFormat": "DYNAMODB_JSON", "s3Prefix": None},
            **{"exportArn": f"arn:aws:dynamodb:us-east-1:1:table/t/export/{ID}"},
            **{"billedSizeBytes": 0, "itemCount": sum(map(len, files)), **summary},
        }
        self.put("manifest-summary.json", json.dumps(whole).encode())
        self.put("manifest-summary.md5", b"x")
        return names


@pytest.fixture
def folder(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Folder:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return Folder(s3)


def read(url: str, settings: StoreSettings | None = None, **source: Any) -> pa.Table:
    whole = {"type": "dynamodb", "table": "t", "export": url, **source}
    reader = open_dynamodb(DynamoSource.model_validate(whole), CONTRACT, settings)
    batches = list(reader)
    assert sum(batch.num_rows for batch in batches) == reader.total
    return pa.Table.from_batches(batches, reader.schema)


def refusal(url: str, **source: Any) -> str:
    with pytest.raises(SourceError) as caught:
        read(url, **source)
    assert caught.value.where == "source.export"
    assert caught.value.fix
    assert "secret" not in str(caught.value)
    return caught.value.what


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": {"S": str(number)}} for number in numbers]


def test_every_kind_of_value_is_its_exact_text(folder: Folder) -> None:
    precise = "12345678901234567890.123456789012345678"
    item = {
        **{"id": {"S": "é\n"}, "n": {"N": precise}, "s": {"BS": ["AP8=", "AA=="]}},
        # An attribute of the name of a type.
        **{"m": {"M": {"B": {"B": "AP8="}}}, "B": {"L": [{"N": "1.50"}, {"NULL": True}]}},
        **{"none": {"NULL": True}, "more": {"BOOL": True}},
    }
    folder.export([item])
    (row,) = read(folder.url).to_pylist()
    assert row == {
        **{"id": "é\n", "n": precise, "s": '["AA==", "AP8="]', "m.B": "AP8="},
        **{"B": "[1.50, null]", "none": None, ORIGINAL: None},
    }


def test_files_and_batches_together_give_each_item_once(folder: Folder) -> None:
    folder.export(numbered(*range(12_000)), [], numbered(*range(12_000, 25_000)))
    for url in (folder.url, f"{folder.url}/"):
        found = read(url)["id"].to_pylist()
        assert found == [str(number) for number in range(25_000)]


def test_it_reads_what_the_table_holds(folder: Folder) -> None:
    serialize = TypeSerializer().serialize
    items = [{"id": str(i), "s": {"a", "b"}, "m": {"B": bytes([i])}} for i in range(3)]
    typed = [{name: serialize(value) for name, value in item.items()} for item in items]
    for item in typed:
        item["m"]["M"]["B"] = {"B": base64.b64encode(bytes(item["m"]["M"]["B"]["B"])).decode()}
    folder.export(typed)
    rows = read(folder.url).to_pylist()
    assert [(r["id"], r["s"], r["m.B"]) for r in rows] == [
        *(("0", '["a", "b"]', "AA=="), ("1", '["a", "b"]', "AQ==")),
        ("2", '["a", "b"]', "Ag=="),
    ]


def test_the_resource_names_the_store(
    s3: S3, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.export(numbered(1))
    for name in s3.environment:
        monkeypatch.delenv(name)
    settings = StoreSettings(endpoint=s3.endpoint, key=s3.reader_key, secret=s3.reader_secret)
    # The source's own endpoint is DynamoDB's.
    other = "http://127.0.0.1:9"
    assert read(folder.url, settings, region="us-east-1", endpoint=other).num_rows == 1


@pytest.mark.parametrize("cut", [10, 0.5, -1])
def test_a_file_that_is_cut_short_is_told(folder: Folder, cut: float) -> None:
    _, last = folder.export(numbered(1), numbered(*range(5000)))
    body = folder.client.get_object(Bucket=folder.bucket, Key=f"{folder.root}/{last}")
    data = body["Body"].read()
    folder.put(last, data[: int(cut * len(data)) if cut == 0.5 else int(cut)])
    assert "file1.json.gz is damaged or cut short" in refusal(folder.url)


def test_a_file_whose_bytes_have_changed_is_told(folder: Folder) -> None:
    (name,) = folder.export(numbered(*range(5000)))
    found = folder.client.get_object(Bucket=folder.bucket, Key=f"{folder.root}/{name}")
    data = bytearray(found["Body"].read())
    data[len(data) // 2] ^= 0xFF
    folder.put(name, bytes(data))
    assert "file0.json.gz" in refusal(folder.url)
    folder.put(name, b"no gzip at all")
    assert "file0.json.gz is damaged or cut short" in refusal(folder.url)


def test_a_missing_file_or_item_is_told(folder: Folder) -> None:
    first, _ = folder.export(numbered(1, 2), numbered(3))
    folder.put(first, b"")
    assert "holds 1 items, but its manifest says 3" in refusal(folder.url)
    folder.client.delete_object(Bucket=folder.bucket, Key=f"{folder.root}/{first}")
    assert "holds 1 items, but its manifest says 3" in refusal(folder.url)
    folder.client.delete_object(Bucket=folder.bucket, Key=f"{folder.root}/data/file1.json.gz")
    assert "no data/*.json.gz" in refusal(folder.url)


def test_an_item_count_that_does_not_match_is_told(folder: Folder) -> None:
    folder.export(numbered(1, 2), itemCount=1)
    assert "holds 2 items, but its manifest says 1" in refusal(folder.url)
    folder.export(numbered(1, 2), itemCount=None)
    assert "tells no itemCount" in refusal(folder.url)


@pytest.mark.parametrize(
    "line",
    [
        *('{"Item": {"id": {"S": "secret"}}', '{"Items": {}}', '["secret"]', "nothing"),
        *('{"Item": {"id": {"N": "secret"}}}', '{"Item": {"id": {"B": "secret-"}}}'),
        *('{"Item": {"id": {"secret": "1"}}}', '{"Item": {"id": "secret"}}', '{"Item": 1}'),
    ],
)
def test_a_line_that_is_no_item_is_told_without_its_values(folder: Folder, line: str) -> None:
    folder.export(numbered(1))
    good = json.dumps({"Item": numbered(1)[0]})
    folder.put("data/file0.json.gz", gzip.compress(f"{good}\n\n{line}\n".encode()))
    assert "line 3 of file0.json.gz is not an item" in refusal(folder.url)


def test_other_formats_and_kinds_are_refused_before_they_are_read(folder: Folder) -> None:
    for other in ({"outputFormat": "ION"}, {"exportType": "INCREMENTAL_EXPORT"}):
        folder.export(numbered(1), **other)
        assert "not a full export in DynamoDB JSON" in refusal(folder.url)


def test_an_export_that_has_not_ended_is_refused(folder: Folder) -> None:
    folder.export(numbered(1))
    folder.client.delete_object(Bucket=folder.bucket, Key=f"{folder.root}/manifest-summary.json")
    assert "there is no manifest-summary.json" in refusal(folder.url)


def test_a_folder_above_is_refused(folder: Folder) -> None:
    folder.export(numbered(1))
    above = folder.url.rpartition("/")[0]
    assert "there is no manifest-summary.json in it" in refusal(above)
    folder.client.put_object(
        Bucket=folder.bucket,
        Key=folder.root.rpartition("/")[0] + "/another/manifest-summary.json",
        Body=b"{}",
    )
    assert "there are 2 exports in it" in refusal(above)


def test_a_store_that_refuses_is_told(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.export(numbered(1))
    assert "no such bucket" in refusal("s3://bucket-that-is-not-there/x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-of-nobody")
    assert "refuses access" in refusal(folder.url)


def test_an_empty_table_is_an_empty_export(folder: Folder) -> None:
    folder.export([])
    assert read(folder.url).num_rows == 0
