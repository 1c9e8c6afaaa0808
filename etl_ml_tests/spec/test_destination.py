"""What a destination refuses before anything is read, and that its secrets are never shown."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import TypeAdapter

from etl_ml.spec import InvalidPipeline, Pipeline, parse
from etl_ml.spec.destination import Destination, names_of
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import attributes

MONGODB = {
    "type": "mongodb",
    "uri": "mongodb://writer:hunter2@db.example.com:27017/?authSource=admin",
    "database": "d",
    "collection": "c",
}
SQL = {"type": "sql", "url": "mysql://writer:hunter2@db.example.com/d", "table": "t"}
DYNAMODB = {"type": "dynamodb", "table": "t"}
FILE = {"type": "file", "path": "s3://bucket/rows"}


def loading(*load: dict[str, Any], **sections: Any) -> Pipeline:
    return parse(attributes(load=list(load), **sections), file="defs.yaml")


def refusal(*load: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(InvalidPipeline) as refused:
        loading(*load, **sections)
    return str(refused.value)


def keyed(*key: str) -> dict[str, Any]:
    return {**attributes()["contract"], "primary_key": list(key)}


def test_the_defaults_are_those_that_are_documented() -> None:
    found = loading(MONGODB, SQL, DYNAMODB, FILE).load
    assert [to.mode for to in found] == ["replace", "replace", "upsert", "replace"]
    assert {to.what for to in found} == {"clean_data"}
    assert {to.key for to in found} == {()}
    assert loading().load == ()


@pytest.mark.parametrize(
    ("load", "told"),
    [
        ({**MONGODB, "database": "a.b"}, r"database"),
        ({**MONGODB, "database": "a/b"}, r"database"),
        ({**MONGODB, "collection": "$cmd"}, r"collection"),
        ({**MONGODB, "collection": ""}, r"collection"),
        ({**MONGODB, "mode": "merge"}, r"mode"),
        ({**SQL, "url": "oracle://writer:hunter2@db.example.com/d"}, r"should begin with mysql://"),
        ({**SQL, "table": ""}, r"table"),
        ({**SQL, "what": "model"}, r"a SQL table cannot hold a model's files"),
        ({**DYNAMODB, "what": "model"}, r"a DynamoDB table cannot hold a model's files"),
        ({**DYNAMODB, "mode": "replace"}, r"cannot be replaced.*use upsert"),
        ({**DYNAMODB, "mode": "append"}, r"cannot be appended to.*use upsert"),
        ({**FILE, "mode": "upsert"}, r"a file has no key.*use replace or append"),
        ({**FILE, "path": "ftp://host/rows"}, r"s3:// az:// gs:// with a bucket"),
        ({**FILE, "path": "s3://"}, r"s3:// az:// gs:// with a bucket"),
        ({**FILE, "path": "rows.csv", "mode": "append"}, r"name a folder"),
        ({**FILE, "path": "rows.csv.gz", "format": "jsonl"}, r"jsonl contradicts .* csv"),
        ({**FILE, "path": "rows.parquet.gz"}, r"Parquet is compressed"),
        ({**FILE, "path": "rows.zst"}, r"Parquet is compressed"),
        ({**FILE, "what": "model", "format": "csv"}, r"leave it out"),
        ({**FILE, "format": "xlsx"}, r"format"),
        ({"type": "kafka"}, r"kafka|type"),
        ({**FILE, "pth": "rows"}, r"pth"),
    ],
)
def test_what_a_destination_cannot_do_is_refused_when_the_pipeline_is_loaded(
    load: dict[str, Any], told: str
) -> None:
    message = " ".join(refusal(load, contract=keyed("age")).split())
    assert "load" in message
    assert re.search(told, message), message
    assert "hunter2" not in message


def test_upsert_needs_a_key_that_is_among_the_clean_rows() -> None:
    upsert = {**SQL, "mode": "upsert"}
    assert "upsert needs a key" in refusal(upsert)
    near = refusal({**upsert, "key": ["aeg"]})
    assert "'aeg' is not under contract.columns" in near
    assert "'age'" in near
    dropped = {"drop_columns": ["opened"]}
    assert "cleaning.drop_columns" in refusal({**upsert, "key": ["opened"]}, cleaning=dropped)
    by_contract = keyed("opened")
    assert "cleaning.drop_columns" in refusal(upsert, contract=by_contract, cleaning=dropped)
    assert loading(upsert, contract=keyed("age")).load[0].key == ()
    assert loading({**upsert, "key": ["age"]}).load[0].key == ("age",)
    assert loading({**SQL, "mode": "append"})  # needs none


def test_two_destinations_cannot_be_one_place() -> None:
    other_user = {**SQL, "url": "mysql://reader:hunter3@db.example.com/d", "mode": "append"}
    assert "the same place as load.0" in " ".join(refusal(SQL, FILE, other_user).split())
    assert loading(SQL, {**SQL, "table": "u"})


def test_names_are_numbered_by_type() -> None:
    load = loading(FILE, SQL, {**FILE, "path": "b"}, {**FILE, "path": "c"}).load
    assert names_of(load) == ["file", "sql", "file_2", "file_3"]


@pytest.mark.parametrize(
    ("keys", "display"),
    [
        (MONGODB, "mongodb://db.example.com:27017/d.c"),
        (SQL, "mysql://db.example.com/d t"),
        (
            {**SQL, "url": "mysql://writer:hun%40ter2@db.example.com/d"},
            "mysql://db.example.com/d t",
        ),
        ({**MONGODB, "uri": "mongodb://writer:hun?ter2@db.example.com"}, "mongodb://…/d.c"),
        ({**DYNAMODB, "endpoint": "https://u:hunter2@host:8000"}, "dynamodb://host:8000/t"),
        ({**DYNAMODB, "region": "eu-central-1"}, "dynamodb://eu-central-1/t"),
        (FILE, "s3://bucket/rows"),
    ],
)
def test_a_destination_is_shown_without_its_secrets(keys: dict[str, Any], display: str) -> None:
    destination: Any = TypeAdapter(Destination).validate_python(keys)
    assert destination.display == display
    if keys["type"] != "dynamodb":
        shown = f"{destination!r} {destination} {destination.model_dump_json()}"
        assert "ter2" not in shown
        assert "writer" not in shown


@pytest.mark.parametrize("wrong", [{"mode": "x"}, {"surplus": 1}, {"key": "age"}])
@pytest.mark.parametrize("to", [MONGODB, SQL], ids=["mongodb", "sql"])
def test_a_refusal_beside_a_secret_does_not_show_it(
    to: dict[str, Any], wrong: dict[str, Any]
) -> None:
    message = refusal({**to, **wrong})
    assert "hunter2" not in message
    assert "writer" not in message


@pytest.mark.parametrize(
    ("path", "chosen", "found"),
    [
        ("rows", None, "parquet"),
        ("rows", "csv", "csv"),
        ("s3://b/rows.csv.gz", None, "csv"),
        ("rows.NDJSON.zst", None, "jsonl"),
        ("a.csv/rows", None, "parquet"),
    ],
)
def test_the_format_follows_from_the_name(path: str, chosen: str | None, found: str) -> None:
    destination: Any = TypeAdapter(Destination).validate_python(
        {**FILE, "path": path, "format": chosen}
    )
    assert destination.rows_format == found


def test_a_load_into_its_own_source_is_refused() -> None:
    place = {"uri": "mongodb://u:abc-secret@h:1/?tls=true", "database": "d", "collection": "c"}
    columns = {"a": {"type": "integer"}, "b": {"type": "integer"}}
    with pytest.raises(InvalidPipeline, match="this is the source"):
        make_pipeline(
            source={"type": "mongodb", **place},
            contract={"columns": columns},
            target={"column": "b"},
            load=[{"type": "mongodb", **place, "uri": "mongodb://other:x@h:1"}],
        )


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb//u:abc-secret@h",
        "mongodb://u:abc@secret@h/",
        "mongodb://u:abc/secret@h/",
        "mysql://u:p@h",
    ],
)
def test_a_uri_that_would_be_misread_is_refused_without_being_shown(uri: str) -> None:
    place = {"type": "mongodb", "uri": uri, "database": "d", "collection": "c"}
    for section in ({"source": place}, {"load": [place]}):
        with pytest.raises(InvalidPipeline) as caught:
            make_pipeline(**section)
        assert "secret" not in str(caught.value)
        assert "uri" in str(caught.value)


@pytest.mark.parametrize("url", ["abc-secret", "mysql://u:abc-secret@x@h/d"])
def test_a_database_url_that_would_be_misread_is_refused_without_being_shown(url: str) -> None:
    place = {"type": "sql", "url": url, "table": "t"}
    for section in ({"source": place}, {"load": [place]}):
        with pytest.raises(InvalidPipeline) as caught:
            make_pipeline(**section)
        assert "secret" not in str(caught.value)
        assert "url" in str(caught.value)
