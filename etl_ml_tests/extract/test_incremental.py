"""Incremental extraction: each row exactly once, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from bson import ObjectId
from pymongo.collection import Collection

from etl_ml.extract import SourceError
from etl_ml.lake import Lake
from etl_ml.spec import InvalidPipeline, Pipeline
from etl_ml.validate import validate
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import collection, grown, pipeline_over, raw
from etl_ml_tests.extract.test_mongodb import loan
from etl_ml_tests.servers.mongodb import MongoDB

BASE = Path()
Loans = Collection[dict[str, Any]]


def by(server: MongoDB, loans: Loans, cursor: str, **incremental: Any) -> Pipeline:
    return pipeline_over(server, loans, source={"incremental": {"cursor": cursor, **incremental}})


def now() -> datetime:
    return datetime.now(UTC)


def same(lake: Lake, pipeline: Pipeline, loans: Loans) -> None:
    """The lake has each document exactly once."""
    frame = raw(lake, pipeline)
    there = sorted(str(d["_id"]) for d in loans.find({}, {"_id": 1}))
    assert sorted(frame["_id"].to_list()) == there
    assert frame["_etl_ml_row"].n_unique() == frame.height


@pytest.mark.parametrize("cursor", ["_id", "updated_at"])
def test_a_run_reads_what_is_new_and_its_version_keeps_what_was(
    mongodb: MongoDB, lake: Lake, cursor: str
) -> None:
    with collection(mongodb) as loans:
        pipeline = by(mongodb, loans, cursor)
        loans.insert_many([loan(i, updated_at=now()) for i in range(100)])
        first = grown(lake, pipeline, BASE)
        same(lake, pipeline, loans)
        nothing = grown(lake, pipeline, BASE)
        assert nothing.manifest.table == first.manifest.table
        loans.insert_many([loan(i, updated_at=now()) for i in range(30)])
        second = grown(lake, pipeline, BASE)
        assert (first.table.rows, second.table.rows) == (100, 130)
        same(lake, pipeline, loans)
        assert lake.table("loans", "raw_data", first.version).to_polars().height == 100
        assert second.table.cursor
        assert second.table.cursor["column"] == cursor


def test_rows_that_come_late_within_the_lag_are_read_and_those_behind_it_are_not(
    mongodb: MongoDB, lake: Lake
) -> None:
    with collection(mongodb) as loans:
        pipeline = by(mongodb, loans, "updated_at", lag_seconds=60)
        start = now() - timedelta(seconds=10)
        loans.insert_one(loan(1, updated_at=start))
        grown(lake, pipeline, BASE)
        loans.insert_one(loan(2, updated_at=start - timedelta(seconds=50)))
        grown(lake, pipeline, BASE)
        same(lake, pipeline, loans)
        loans.insert_one(loan(3, updated_at=start - timedelta(seconds=70)))
        grown(lake, pipeline, BASE)
        assert raw(lake, pipeline).height == 2


def test_ids_made_out_of_order_on_another_client_are_not_missed(
    mongodb: MongoDB, lake: Lake
) -> None:
    with collection(mongodb) as loans:
        pipeline = by(mongodb, loans, "_id", lag_seconds=60)
        older = [ObjectId.from_datetime(now() - timedelta(seconds=s)) for s in (40, 30, 20)]
        loans.insert_one(loan(1))
        grown(lake, pipeline, BASE)
        for one in older:
            loans.insert_one(loan(2, _id=one))
            grown(lake, pipeline, BASE)
        same(lake, pipeline, loans)


@pytest.mark.parametrize("cursor", ["_id", "updated_at"])
def test_a_client_whose_clock_is_fast_hides_nobody_elses_rows(
    mongodb: MongoDB, lake: Lake, cursor: str
) -> None:
    with collection(mongodb) as loans:
        pipeline = by(mongodb, loans, cursor, lag_seconds=5)
        ahead = now() + timedelta(hours=1)
        loans.insert_one(loan(1, _id=ObjectId.from_datetime(ahead), updated_at=ahead))
        version = grown(lake, pipeline, BASE)
        assert version.table.rows == 1
        for number in range(3):
            loans.insert_one(loan(number, updated_at=now()))
            grown(lake, pipeline, BASE)
            same(lake, pipeline, loans)


def test_the_newest_row_of_a_key_counts_and_refresh_starts_over(
    mongodb: MongoDB, lake: Lake
) -> None:
    with collection(mongodb) as loans:
        pipeline = by(mongodb, loans, "updated_at")
        ids = loans.insert_many([loan(i, updated_at=now()) for i in range(120)]).inserted_ids
        grown(lake, pipeline, BASE)
        for age in (31, 32, 33):
            loans.update_one({"_id": ids[7]}, {"$set": {"age": age, "updated_at": now()}})
            grown(lake, pipeline, BASE)
        frame = raw(lake, pipeline)
        assert frame.height == 123
        report = validate(frame.lazy(), pipeline)
        assert report.report["superseded_rows"] == 3
        assert report.report["valid_rows"] == 120
        again = raw(lake, pipeline).filter(pl.col("_id") == str(ids[7]))
        assert sorted(again["age"].to_list())[-3:] == [31, 32, 33]
        valid = report.valid.collect().filter(pl.col("age").is_in([31, 32, 33]))
        assert 33 in valid["age"].to_list()

        # An update that breaks the contract takes the older rows with it.
        loans.update_one({"_id": ids[7]}, {"$set": {"age": "old", "updated_at": now()}})
        grown(lake, pipeline, BASE)
        broken = validate(raw(lake, pipeline).lazy(), pipeline).report
        assert (broken["valid_rows"], broken["quarantined_rows"]) == (119, 1)
        assert broken["superseded_rows"] == 4

        loans.delete_one({"_id": ids[8]})
        before = grown(lake, pipeline, BASE)
        assert raw(lake, pipeline).height == 124  # a deletion is not seen …
        after = grown(lake, pipeline, BASE, refresh=True)
        assert (before.table.rows, after.table.rows) == (124, 119)  # … until everything is read
        same(lake, pipeline, loans)
        grown(lake, pipeline, BASE)
        same(lake, pipeline, loans)


def test_another_source_under_the_same_name_is_refused(mongodb: MongoDB, lake: Lake) -> None:
    with collection(mongodb) as loans:
        loans.insert_one(loan(1))
        grown(lake, by(mongodb, loans, "_id"), BASE)
        loans.database["others"].insert_one(loan(2))
        other = pipeline_over(
            mongodb, loans.database["others"], source={"incremental": {"cursor": "_id"}}
        )
        with pytest.raises(SourceError, match="etl-ml refresh loans"):
            grown(lake, other, BASE)
        assert grown(lake, other, BASE, refresh=True).table.rows == 1


def test_eight_writers_and_twenty_runs_lose_nothing_and_double_nothing(
    mongodb: MongoDB, lake: Lake
) -> None:
    with collection(mongodb) as loans:
        pipeline = by(mongodb, loans, "updated_at", lag_seconds=30)
        loans.insert_one(loan(0, updated_at=now()))
        stop = threading.Event()
        errors: list[BaseException] = []

        def write(seed: int) -> None:
            rng = random.Random(seed)
            try:
                with mongodb.client() as client:
                    mine = client[loans.database.name][loans.name]
                    while not stop.is_set():
                        late = timedelta(seconds=rng.uniform(0, 10))
                        one = ObjectId.from_datetime(now() - late)
                        identity = ObjectId(one.binary[:4] + rng.randbytes(8))
                        mine.insert_one(loan(1, _id=identity, updated_at=now() - late))
                        time.sleep(rng.uniform(0, 0.02))
            except BaseException as error:
                errors.append(error)

        writers = [threading.Thread(target=write, args=(seed,)) for seed in range(8)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(20):
                grown(lake, pipeline, BASE)
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        assert not errors
        grown(lake, pipeline, BASE)
        assert loans.count_documents({}) > 200
        same(lake, pipeline, loans)


RUN = """
import json, os, signal, sys
from pathlib import Path
from etl_ml.extract import extract_new, spool
from etl_ml.lake import Contents, open_lake, growing, writer
from etl_ml.spec import parse

pipeline = parse(json.loads(sys.argv[1]), file="defs.yaml")
place, number = sys.argv[3].split(":")
calls = 0

def dying(owner, name, after=False):
    real = getattr(owner, name)
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == int(number) and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if calls == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, call)

if place == "batch":
    dying(spool.Spool, "add")
elif place == "commit":
    dying(writer.Writer, "follow", after=True)
elif place == "before":
    dying(writer.Writer, "follow")
grow = lambda head: extract_new(pipeline, head, base=Path())
open_lake(sys.argv[2]).write("loans", "raw_data", Contents(grow=grow))
"""


@pytest.mark.parametrize("place", ["batch:1", "batch:3", "before:1", "commit:1"])
def test_a_run_that_is_killed_anywhere_costs_no_row_and_doubles_none(
    mongodb: MongoDB, lake: Lake, place: str
) -> None:
    with collection(mongodb) as loans:
        settings = {"batch_size": 100, "incremental": {"cursor": "updated_at"}}
        pipeline = pipeline_over(mongodb, loans, source=settings)
        given = pipeline.model_dump(mode="json", exclude_unset=True)
        given["source"]["uri"] = mongodb.uri
        del given["training"]
        command = [sys.executable, "-c", RUN, json.dumps(given), lake.url]
        for _ in range(2):  # a first run, and one that follows
            loans.insert_many([loan(i, updated_at=now()) for i in range(450)])
            run = subprocess.run(
                [*command, place], capture_output=True, text=True, timeout=120, check=False
            )
            assert run.returncode == -signal.SIGKILL, run.stderr
            subprocess.run([*command, "nowhere:0"], timeout=120, check=True)
            same(lake, pipeline, loans)
    assert os.path.isdir(lake.url)


def files(tmp_path: Path, **contract: Any) -> Pipeline:
    return make_pipeline(
        source={"path": str(tmp_path / "in" / "*.csv"), "incremental": {}},
        contract={
            "columns": {
                "id": {"type": "integer"},
                "age": {"type": "integer"},
                "defaulted": {"type": "integer"},
            },
            **contract,
        },
    )


def put(tmp_path: Path, name: str, *rows: tuple[int, int]) -> None:
    (tmp_path / "in").mkdir(exist_ok=True)
    lines = "".join(f"{key},{age},0\n" for key, age in rows)
    (tmp_path / "in" / name).write_text(f"id,age,defaulted\n{lines}")


def test_files_are_read_once_each(tmp_path: Path, lake: Lake) -> None:
    pipeline = files(tmp_path)
    put(tmp_path, "a.csv", (1, 10), (1, 10), (2, 20))
    first = grown(lake, pipeline, tmp_path)
    put(tmp_path, "b.csv", (1, 10), (3, 30))
    second = grown(lake, pipeline, tmp_path)
    third = grown(lake, pipeline, tmp_path)
    assert [v.table.rows for v in (first, second, third)] == [3, 5, 5]
    frame = raw(lake, pipeline)
    assert sorted(frame["id"].to_list()) == ["1", "1", "1", "2", "3"]
    assert frame["_etl_ml_row"].n_unique() == 5
    assert third.table.cursor
    assert third.table.cursor["count"] == 2


def test_a_file_that_changed_is_read_again_where_a_key_tells_its_rows(
    tmp_path: Path, lake: Lake
) -> None:
    put(tmp_path, "a.csv", (1, 10), (2, 20))
    pipeline = files(tmp_path, primary_key=["id"])
    grown(lake, pipeline, tmp_path)
    put(tmp_path, "a.csv", (1, 11), (2, 20), (3, 30))
    grown(lake, pipeline, tmp_path)
    result = validate(raw(lake, pipeline).lazy(), pipeline)
    valid = result.valid.collect().sort("id")
    assert valid["age"].to_list() == [11, 20, 30]
    assert result.report["superseded_rows"] == 2


def test_a_file_that_changed_is_refused_where_its_rows_would_be_doubled(
    tmp_path: Path, lake: Lake
) -> None:
    put(tmp_path, "a.csv", (1, 10))
    pipeline = files(tmp_path)
    grown(lake, pipeline, tmp_path)
    put(tmp_path, "a.csv", (1, 10), (2, 20))
    with pytest.raises(SourceError) as caught:
        grown(lake, pipeline, tmp_path)
    assert "has changed since it was read" in str(caught.value)
    assert "etl-ml refresh loans" in str(caught.value)
    assert grown(lake, pipeline, tmp_path, refresh=True).table.rows == 2


@pytest.mark.parametrize(
    ("incremental", "contract", "told"),
    [
        ({}, {}, "name the column that grows"),
        ({"cursor": "updatedat"}, {}, "did you mean 'updated_at'"),
        ({"cursor": "updated_at", "lag_rows": 5}, {}, "is given by lag_seconds"),
        ({"cursor": "age", "lag_seconds": 5}, {}, "is given by lag_rows"),
        ({"cursor": "_id", "lag_rows": 5}, {}, "is given by lag_seconds"),
        ({"cursor": "updated_at", "lag": 5}, {}, "'source.incremental.lag' is not a key"),
        ({"cursor": "updated_at"}, {"unknown_columns": "keep"}, "no columns but the contract's"),
    ],
)
def test_what_cannot_be_read_incrementally_is_said_at_load(
    incremental: dict[str, Any], contract: dict[str, Any], told: str
) -> None:
    columns = {
        "age": {"type": "integer"},
        "updated_at": {"type": "datetime"},
        "defaulted": {"type": "integer"},
    }
    uri = {"type": "mongodb", "uri": "mongodb://u:secret@h", "database": "d", "collection": "c"}
    with pytest.raises(InvalidPipeline) as caught:
        make_pipeline(
            source={**uri, "incremental": incremental}, contract={"columns": columns, **contract}
        )
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)
