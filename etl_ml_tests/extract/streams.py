"""Streams to extract, and pipelines over them."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from etl_ml.lake import Lake
from etl_ml.spec import Pipeline
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import raw
from etl_ml_tests.servers.kafka import Kafka

COLUMNS: dict[str, Any] = {
    "id": {"type": "integer"},
    "age": {"type": "integer"},
    "income": {"type": "float"},
    "country": {"type": "string"},
    "active": {"type": "boolean"},
    "defaulted": {"type": "integer"},
}


def message(number: int, **more: Any) -> bytes:
    """A loan as JSON; `id` tells it again."""
    loan = {
        "id": number,
        "age": 20 + number % 60,
        "income": number * 1.25,
        "country": ("DE", "FR", "IT")[number % 3],
        "active": number % 2 == 0,
        "defaulted": number % 2,
    }
    return json.dumps(loan | more).encode()


def pipeline_over(kafka: Kafka, *topics: str, **sections: Any) -> Pipeline:
    """A pipeline over topics; `source` and `contract` sections are merged into."""
    own = {
        "type": "kafka",
        "bootstrap_servers": kafka.servers,
        "topics": list(topics),
        **sections.pop("source", {}),
    }
    contract = {"columns": COLUMNS, **sections.pop("contract", {})}
    return make_pipeline(source=own, contract=contract, **sections)


def ids(lake: Lake, pipeline: Pipeline) -> list[int]:
    """The `id` of each row of raw_data, in order; every row once by its identity."""
    frame = raw(lake, pipeline)
    assert frame["_etl_ml_row"].n_unique() == frame.height
    return sorted(frame["id"].drop_nulls().cast(pl.Int64).to_list())


def cursor(lake: Lake, pipeline: Pipeline) -> dict[str, Any]:
    found = lake.table(pipeline.name, "raw_data").cursor
    assert found is not None
    return found
