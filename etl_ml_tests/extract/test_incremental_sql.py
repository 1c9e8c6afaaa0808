"""Incremental extraction from a table that changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from etl_ml.lake import Lake
from etl_ml.spec import InvalidPipeline, Pipeline
from etl_ml.validate import validate
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import grown, raw
from etl_ml_tests.servers.mariadb import MariaDB

BASE = Path()
COLUMNS = {
    "id": {"type": "integer"},
    "age": {"type": "integer", "max": 100},
    "updated_at": {"type": "datetime"},
    "defaulted": {"type": "integer"},
}


class Loans:
    """A table of its own, and pipelines over it."""

    def __init__(self, server: MariaDB) -> None:
        self.server, self.name = server, f"t{uuid4().hex[:12]}"
        self.run(
            f"CREATE TABLE {self.name} (id BIGINT PRIMARY KEY, age INT, "
            "updated_at DATETIME(6), defaulted INT, KEY (updated_at))"
        )

    def run(self, statement: str, *values: Any) -> None:
        with self.server.connect() as connection:
            connection.cursor().execute(statement, values or None)
            connection.commit()

    def put(self, key: int, age: int = 30, seconds: float = 0) -> None:
        """Insert or update a row whose clock is off by some seconds."""
        moment = "UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND"
        self.run(
            f"REPLACE INTO {self.name} VALUES (%s, %s, {moment}, 0)", key, age, int(seconds * 1e6)
        )

    def pipeline(self, cursor: str, **incremental: Any) -> Pipeline:
        return make_pipeline(
            source={
                "type": "sql",
                "url": self.server.url,
                "table": self.name,
                "batch_rows": 7,
                "incremental": {"cursor": cursor, **incremental},
            },
            contract={"columns": COLUMNS, "primary_key": ["id"]},
        )


@pytest.fixture
def loans(mariadb: MariaDB) -> Iterator[Loans]:
    table = Loans(mariadb)
    yield table
    table.run(f"DROP TABLE {table.name}")


def keys(lake: Lake) -> list[int]:
    return sorted(lake.table("loans", "raw_data").to_polars()["id"].to_list())


def test_rows_are_appended_by_number_and_late_ones_within_the_lag(loans: Loans, lake: Lake) -> None:
    pipeline = loans.pipeline("id", lag_rows=5)
    for key in range(0, 60, 2):
        loans.put(key)
    grown(lake, pipeline, BASE)
    assert keys(lake) == list(range(0, 60, 2))
    loans.put(55)  # committed late: within the last five
    loans.put(3)  # far behind
    loans.put(60)
    grown(lake, pipeline, BASE)
    assert keys(lake) == sorted([*range(0, 61, 2), 55])
    before = grown(lake, pipeline, BASE)
    assert before.table.rows == 32
    assert before.table.cursor
    assert before.table.cursor["position"] == 60
    grown(lake, pipeline, BASE, refresh=True)
    assert 3 in keys(lake)


def test_updates_are_newer_rows_of_their_keys(loans: Loans, lake: Lake) -> None:
    pipeline = loans.pipeline("updated_at", lag_seconds=2)
    for key in range(120):
        loans.put(key)
    grown(lake, pipeline, BASE)
    loans.put(7, age=41)
    grown(lake, pipeline, BASE)
    loans.put(7, age=42)
    loans.put(8, age=400)
    version = grown(lake, pipeline, BASE)
    assert version.table.rows == 123
    report = validate(raw(lake, pipeline).lazy(), pipeline)
    assert report.report["superseded_rows"] == 3
    assert report.report["quarantined_rows"] == 1  # 400 years
    valid = report.valid.collect()
    assert valid.filter(valid["id"] == 7)["age"].to_list() == [42]
    assert 8 not in valid["id"].to_list()


def test_a_fast_clock_hides_nobody_elses_rows(loans: Loans, lake: Lake) -> None:
    pipeline = loans.pipeline("updated_at", lag_seconds=1)
    loans.put(1, seconds=3600)
    grown(lake, pipeline, BASE)
    for key in (2, 3):
        loans.put(key)
        time.sleep(0.1)
        grown(lake, pipeline, BASE)
    assert keys(lake) == [1, 2, 3]


def test_a_column_whose_order_is_the_databases_business_is_no_cursor() -> None:
    with pytest.raises(InvalidPipeline, match="depends on the database's collation"):
        make_pipeline(
            source={
                "type": "sql",
                "url": "sqlite:///x",
                "table": "t",
                "incremental": {"cursor": "c"},
            },
            contract={
                "columns": {**COLUMNS, "c": {"type": "string"}},
                "primary_key": ["id"],
            },
        )
