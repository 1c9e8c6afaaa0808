"""MongoDB collections, read from a real server that also fails."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from etl_ml.extract import SourceError, extract
from etl_ml.spec import Pipeline
from etl_ml.validate import validate
from etl_ml_tests.extract.collections import collection, everything, pipeline_over
from etl_ml_tests.servers.mongodb import MongoDB

NOW = datetime(2026, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)


def loan(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "age": 18 + number % 60,
        "income": number * 1.5,
        "country": "DE",
        "active": number % 2 == 0,
        "updated_at": NOW + timedelta(seconds=number),
        "defaulted": number % 2,
        **fields,
    }


def read(pipeline: Pipeline) -> Any:
    found = extract(
        pipeline.source,
        base=Path(),
        contract=pipeline.contract,
        primary_key=pipeline.row_key(),
    )
    return everything(found.rows)


def refused(pipeline: Pipeline) -> str:
    with pytest.raises(SourceError) as caught:
        read(pipeline)
    return str(caught.value)


def test_every_document_is_read_in_the_contracts_types(mongodb: MongoDB) -> None:
    with collection(mongodb) as source:
        documents = [loan(i) for i in range(250)]
        source.insert_many(documents)
        frame = read(pipeline_over(mongodb, source, source={"batch_size": 100}))
        there = {str(d["_id"]): d for d in source.find()}
    assert frame["_etl_ml_row"].n_unique() == frame.height == 250
    for row in frame.to_dicts():
        document = there[row["_id"]] | {"_id": row["_id"]}
        assert {name: row[name] for name in document} == document


def test_a_query_and_a_projection_are_the_servers_work(mongodb: MongoDB) -> None:
    with collection(mongodb) as source:
        source.insert_many([loan(i, secret="x") for i in range(20)])
        query = {"updated_at": {"$gte": {"$date": "2026-05-06T07:08:24.123Z"}}}
        one = {"query": query, "projection": ["age", "defaulted"]}
        frame = read(pipeline_over(mongodb, source, source=one))
        assert frame.height == 5
        assert frame["income"].null_count() == 5
        assert frame["_etl_ml_original"].null_count() == 5  # `secret` was not asked for
        dropped = read(pipeline_over(mongodb, source, contract={"unknown_columns": "drop"}))
        assert dropped["_etl_ml_original"].null_count() == 20


def test_bad_documents_are_quarantined_with_reason_and_original_and_harm_no_other(
    mongodb: MongoDB,
) -> None:
    with collection(mongodb) as source:
        source.insert_many([loan(i) for i in range(200)])
        source.insert_many(
            [
                loan(1, age="forty"),
                loan(2, colour="red"),
                loan(3, country=["DE", "FR"]),
                loan(4, age=3.7),
                loan(5, country="x" * (16 * 1024 * 1024 - 1000)),
            ]
        )
        columns = {"country": {"type": "string", "max_length": 2}}
        pipeline = pipeline_over(mongodb, source)
        columns = {
            n: c.model_dump(exclude_unset=True) for n, c in pipeline.contract.columns.items()
        } | columns
        pipeline = pipeline_over(mongodb, source, contract={"columns": columns})
        frame = read(pipeline)
    result = validate(frame.lazy(), pipeline)
    assert result.report["valid_rows"] == 200
    bad = result.quarantined.collect()
    assert sorted(reason for reasons in bad["_reasons"] for reason in reasons) == [
        "age: type",
        "age: type",
        "colour: unknown_columns",
        "country: max_length",
        "country: type",
    ]
    texts = bad["_etl_ml_original"].drop_nulls().str.head(400).to_list()
    assert sum('"forty"' in text for text in texts) == 1
    assert sum('"colour": "red"' in text for text in texts) == 1
    examples = {(c["name"], c["column"]): c["examples"] for c in result.report["checks"]}
    assert examples["type", "age"] == ["3.7", "forty"]
    assert examples["unknown_columns", None] == ["colour"]


def test_ids_of_several_types_are_all_read_after_the_server_went_away(mongodb: MongoDB) -> None:
    with collection(mongodb) as source:
        ids: list[Any] = [ObjectId(), "a", 5, 7.5, NOW, "b", {"k": 1}, True]
        source.insert_many([loan(i, _id=one) for i, one in enumerate(ids)])
        pipeline = pipeline_over(mongodb, source, source={"batch_size": 2})
        found = extract(pipeline.source, base=Path(), contract=pipeline.contract)
        seen = []
        for batch in found.rows:
            if not seen:
                mongodb.kill()
                mongodb.start()
            seen += batch.column("age").to_pylist()
        assert sorted(seen) == sorted(18 + i for i in range(len(ids)))


def test_a_server_that_goes_away_in_the_middle_costs_no_row_and_doubles_none(
    mongodb: MongoDB,
) -> None:
    with collection(mongodb) as source:
        source.insert_many([loan(i) for i in range(3000)])
        pipeline = pipeline_over(mongodb, source, source={"batch_size": 250})
        found = extract(pipeline.source, base=Path(), contract=pipeline.contract)
        ids: list[str] = []
        for number, batch in enumerate(found.rows):
            ids += batch.column("_id").to_pylist()
            if number == 3:
                mongodb.kill()
                threading.Timer(2, mongodb.start).start()
        there = {str(d["_id"]) for d in source.find({}, {"_id": 1})}
    assert len(ids) == 3000
    assert set(ids) == there


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"uri": "mongodb://loans:verysecret@127.0.0.1:{port}/?authSource=admin"}, "refuses"),
        (
            {"uri": "mongodb://u:verysecret@no.such.host.invalid/?serverSelectionTimeoutMS=500"},
            "no server answers",
        ),
        (
            {"uri": "mongodb://u:verysecret@127.0.0.1:1/?serverSelectionTimeoutMS=500"},
            "Connection refused",
        ),
        ({"database": "nowhere"}, "there is no database 'nowhere'"),
        ({"collection": "loan"}, "nearest   'loans'"),
        ({"query": {"age": {"$near": 1}}}, "source.query"),
    ],
)
def test_what_cannot_be_read_is_named_at_once_and_without_the_secret(
    mongodb: MongoDB, source: dict[str, Any], told: str
) -> None:
    with collection(mongodb) as there:
        there.insert_one(loan(1))
        if "uri" in source:
            source = {"uri": source["uri"].replace("{port}", str(mongodb.port))}
        start = time.monotonic()
        message = refused(pipeline_over(mongodb, there, source=source))
    assert time.monotonic() - start < 10
    assert told in message
    assert "secret" not in message


def test_an_empty_collection_is_refused_before_anything_is_written(mongodb: MongoDB) -> None:
    with collection(mongodb) as source:
        source.insert_one(loan(1))
        source.delete_many({})
        assert "a header and no rows" in refused(pipeline_over(mongodb, source))
