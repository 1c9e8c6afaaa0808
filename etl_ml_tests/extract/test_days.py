"""Whole days of a source: read, and read again in place of what was there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_ml.extract import SourceError, extract_days
from etl_ml.extract.days import spans
from etl_ml.lake import Contents, Lake, Version
from etl_ml.spec import InvalidPipeline, Pipeline
from etl_ml.validate import validate
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import collection, pipeline_over
from etl_ml_tests.extract.test_mongodb import loan
from etl_ml_tests.servers.mariadb import MariaDB
from etl_ml_tests.servers.mongodb import MongoDB

BASE = Path()
FIRST = date(2026, 3, 1)
BY_DAY = {"partitions": {"column": "day", "start": "2026-03-01"}}
COLUMNS = {
    "id": {"type": "integer"},
    "day": {"type": "datetime"},
    "age": {"type": "integer"},
    "defaulted": {"type": "integer"},
}


def days(*numbers: int) -> list[date]:
    return [FIRST + timedelta(days=number) for number in numbers]


def taken(lake: Lake, pipeline: Pipeline, *numbers: int, refresh: bool = False) -> Version:
    """One run of raw_data over days."""
    return lake.write(
        pipeline.name,
        "raw_data",
        Contents(
            grow=lambda head: extract_days(
                pipeline, days(*numbers), head, base=BASE, refresh=refresh
            )
        ),
    )


class Table:
    """Rows of a table of its own, by id, day and age."""

    def __init__(self, server: MariaDB, kind: str = "DATETIME(6)") -> None:
        self.server, self.name = server, f"t{uuid4().hex[:12]}"
        self.run(
            f"CREATE TABLE {self.name} (id BIGINT PRIMARY KEY, day {kind}, age INT, defaulted INT)"
        )

    def run(self, statement: str, *values: Any) -> None:
        with self.server.connect() as connection:
            connection.cursor().execute(statement, values or None)
            connection.commit()

    def put(self, key: int, day: str | None, age: int = 30) -> None:
        self.run(f"REPLACE INTO {self.name} VALUES (%s, %s, %s, 0)", key, day, age)

    def pipeline(self, **contract: Any) -> Pipeline:
        columns = COLUMNS | contract.pop("columns", {})
        return make_pipeline(
            source={"type": "sql", "url": self.server.url, "table": self.name, "batch_rows": 3},
            contract={"columns": columns, "primary_key": ["id"], **contract},
            **BY_DAY,
        )


@pytest.fixture
def table(mariadb: MariaDB) -> Iterator[Table]:
    found = Table(mariadb)
    yield found
    found.run(f"DROP TABLE {found.name}")


def ids(lake: Lake, version: Version | None = None) -> list[int]:
    chosen = version.version if version else None
    return sorted(lake.table("loans", "raw_data", chosen).to_polars()["id"].to_list())


def test_a_day_begins_at_its_first_moment_and_ends_before_the_next(
    table: Table, lake: Lake
) -> None:
    moments = {
        1: "2026-03-01 23:59:59.999999",
        2: "2026-03-02 00:00:00",
        3: "2026-03-02 23:59:59.999999",
        4: "2026-03-03 00:00:00",
        5: None,
    }
    for key, moment in moments.items():
        table.put(key, moment)
    version = taken(lake, table.pipeline(), 1)
    assert ids(lake) == [2, 3]
    assert version.table.cursor is not None
    assert version.table.cursor["position"] == "2026-03-02"


def test_a_day_that_is_read_again_takes_the_place_of_what_was_there(
    table: Table, lake: Lake
) -> None:
    pipeline = table.pipeline()
    for key in range(12):
        table.put(key, f"2026-03-0{1 + key % 3} 12:00:00")
    taken(lake, pipeline, 0)
    first = taken(lake, pipeline, 1, 2)
    assert ids(lake) == list(range(12))
    table.run(f"DELETE FROM {table.name} WHERE id IN (0, 1)")  # of the first and the second day
    table.put(4, "2026-03-02 13:00:00", age=77)
    table.put(50, "2026-03-02 01:00:00")
    again = taken(lake, pipeline, 1)
    assert ids(lake) == [0, *range(2, 12), 50]
    rows = again.table.to_polars()
    assert rows.filter(rows["id"] == 4)["age"].to_list() == [77]
    assert rows["_etl_ml_row"].n_unique() == rows.height
    assert ids(lake, first) == list(range(12))  # the version before is as it was
    same = taken(lake, pipeline, 1)
    assert same.table.content_hash() == again.table.content_hash()


def test_a_day_that_is_empty_by_now_leaves_nothing_of_it(table: Table, lake: Lake) -> None:
    pipeline = table.pipeline()
    table.put(1, "2026-03-01 12:00:00")
    table.put(2, "2026-03-02 12:00:00")
    taken(lake, pipeline, 0, 1)
    table.run(f"DELETE FROM {table.name} WHERE id = 2")
    taken(lake, pipeline, 1)
    assert ids(lake) == [1]
    with pytest.raises(SourceError, match="no rows"):
        taken(lake, pipeline.model_copy(update={"name": "others"}), 5)


def test_a_row_that_moved_to_another_day_counts_there(table: Table, lake: Lake) -> None:
    pipeline = table.pipeline()
    for key in range(6):
        table.put(key, "2026-03-01 12:00:00")
    taken(lake, pipeline, 0)
    table.put(3, "2026-03-02 12:00:00", age=41)
    taken(lake, pipeline, 1)
    result = validate(lake.table("loans", "raw_data").scan(), pipeline)
    assert (result.report["rows"], result.report["superseded_rows"]) == (7, 1)
    valid = result.valid.collect()
    assert valid.filter(valid["id"] == 3)["age"].to_list() == [41]


def test_a_date_column_is_asked_by_its_days(mariadb: MariaDB, lake: Lake) -> None:
    table = Table(mariadb, "DATE")
    for key in range(9):
        table.put(key, f"2026-03-0{1 + key // 3}")
    pipeline = table.pipeline(columns={"day": {"type": "date"}})
    taken(lake, pipeline, 0, 2)
    assert ids(lake) == [0, 1, 2, 6, 7, 8]
    table.run(f"UPDATE {table.name} SET age = 99")
    version = taken(lake, pipeline, 2, 1)
    rows = version.table.to_polars().sort("id")
    assert rows["age"].to_list() == [30] * 3 + [99] * 6
    table.run(f"DROP TABLE {table.name}")


def test_sqlite_has_days_though_it_has_no_dates(tmp_path: Path, lake: Lake) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "loans.db") as database:
        database.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, day TEXT, age INT, defaulted INT)"
        )
        moments = [
            "2026-03-01 23:59:59",
            "2026-03-02",
            "2026-03-02T00:00:00",
            "2026-03-02 23:59:59",
        ]
        moments += ["2026-03-03 00:00:00", "2026-03-03"]
        rows = [(number, moment, 30, 0) for number, moment in enumerate(moments)]
        database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
    pipeline = make_pipeline(
        source={"type": "sql", "url": f"sqlite:///{tmp_path}/loans.db", "table": "t"},
        contract={"columns": COLUMNS, "primary_key": ["id"]},
        **BY_DAY,
    )
    taken(lake, pipeline, 1)
    taken(lake, pipeline, 1)
    assert ids(lake) == [1, 2, 3]
    taken(lake, pipeline, 0, 2)
    assert ids(lake) == list(range(6))


def test_documents_are_read_by_the_day(mongodb: MongoDB, lake: Lake) -> None:
    with collection(mongodb) as loans:
        start = datetime(2026, 3, 1, tzinfo=UTC)
        loans.insert_many([loan(i, updated_at=start + timedelta(hours=8 * i)) for i in range(9)])
        pipeline = pipeline_over(
            mongodb,
            loans,
            source={"query": {"country": "DE"}},
            partitions={"column": "updated_at", "start": "2026-03-01"},
        )
        taken(lake, pipeline, 0)
        taken(lake, pipeline, 2, 1)
        loans.update_many({}, {"$set": {"income": 1.0}})
        loans.delete_one({"age": 18})
        taken(lake, pipeline, 0)
        rows = lake.table("loans", "raw_data").to_polars().sort("age")
    assert rows["age"].to_list() == list(range(19, 27))
    assert rows["income"].to_list() == [1.0] * 2 + [i * 1.5 for i in range(3, 9)]


def test_another_source_begins_anew_only_when_it_is_asked_to(table: Table, lake: Lake) -> None:
    pipeline = table.pipeline()
    table.put(1, "2026-03-01 12:00:00")
    table.put(2, "2026-03-02 12:00:00")
    taken(lake, pipeline, 0)
    source = pipeline.source.model_copy(
        update={"table": None, "query": f"SELECT * FROM {table.name}"}
    )
    other = pipeline.model_copy(update={"source": source})
    with pytest.raises(SourceError, match="are not those that raw_data was read by"):
        taken(lake, other, 1)
    taken(lake, other, 1, refresh=True)
    assert ids(lake) == [2]


@given(st.sets(st.integers(0, 40), min_size=1))
def test_spans_are_the_days_and_no_others(numbers: set[int]) -> None:
    found = spans(days(*numbers))
    covered = [
        first + timedelta(days=i) for first, last in found for i in range((last - first).days + 1)
    ]
    assert covered == sorted(days(*numbers))
    assert all((later[0] - earlier[1]).days > 1 for earlier, later in pairwise(found))


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"source": {"type": "file", "path": "a.csv"}}, "a file source cannot be asked for a day"),
        ({"partitions": {"column": "dya", "start": FIRST}}, "did you mean 'day'?"),
        ({"partitions": {"column": "age", "start": FIRST}}, "of type integer, and has no day"),
        ({"partitions": {"column": "day", "start": "soon"}}, "partitions.start"),
        ({"partitions": {"column": "day"}}, "'partitions.start' is required"),
        ({"automation": {"new_data": {}}}, "automation.new_data has no day to ask for"),
        ({"source": {"incremental": {"cursor": "day"}}}, "leave one of them out"),
    ],
)
def test_what_has_no_days_is_refused_at_load(sections: dict[str, Any], told: str) -> None:
    source = {"type": "sql", "url": "sqlite:///loans.db", "table": "t"}
    given = sections.pop("source", {})
    with pytest.raises(InvalidPipeline) as caught:
        make_pipeline(
            source=given if "type" in given else source | given,
            contract={"columns": COLUMNS, "primary_key": ["id"]},
            **(BY_DAY | sections),
        )
    assert told in str(caught.value)
