"""MongoDB collections to extract, and pipelines over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import polars as pl
import pyarrow as pa
from pymongo.collection import Collection

from etl_ml.lake import Contents, Lake, Version
from etl_ml.spec import Pipeline
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.servers.mongodb import MongoDB

COLUMNS: dict[str, Any] = {
    "age": {"type": "integer"},
    "income": {"type": "float"},
    "country": {"type": "string"},
    "active": {"type": "boolean"},
    "updated_at": {"type": "datetime"},
    "defaulted": {"type": "integer"},
}


@contextmanager
def collection(server: MongoDB) -> Iterator[Collection[dict[str, Any]]]:
    """An empty collection in a database of its own."""
    with server.client(tz_aware=True) as client:
        name = f"t{uuid4().hex[:12]}"
        yield client[name]["loans"]
        client.drop_database(name)


def pipeline_over(server: MongoDB, there: Collection[dict[str, Any]], **sections: Any) -> Pipeline:
    """A pipeline over a collection; `source` and `contract` sections are merged into."""
    own = {
        "type": "mongodb",
        "uri": server.uri,
        "database": there.database.name,
        "collection": there.name,
        **sections.pop("source", {}),
    }
    contract = {"columns": COLUMNS, **sections.pop("contract", {})}
    return make_pipeline(source=own, contract=contract, **sections)


def everything(rows: Any) -> pl.DataFrame:
    """All batches as one frame."""
    return pl.DataFrame(pa.Table.from_batches(list(rows), rows.schema))


def raw(lake: Lake, pipeline: Pipeline) -> pl.DataFrame:
    return lake.table(pipeline.name, "raw_data").to_polars()


def grown(lake: Lake, pipeline: Pipeline, base: Any, *, refresh: bool = False) -> Version:
    """One incremental run of raw_data."""
    from etl_ml.extract import extract_new

    return lake.write(
        pipeline.name,
        "raw_data",
        Contents(grow=lambda head: extract_new(pipeline, head, base=base, refresh=refresh)),
    )
