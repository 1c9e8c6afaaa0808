"""What is new at a source: counted as a read would find it, without reading it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo.collection import Collection
from pymongo.monitoring import CommandListener, register

from etl_ml.extract import SourceError, SourceUnavailable, extract, held, pending
from etl_ml.lake import Contents, Lake, Version
from etl_ml.lake.growing import SOURCE
from etl_ml.lake.stores import StoreSettings
from etl_ml.spec import InvalidPipeline, Pipeline
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import collection, grown, pipeline_over
from etl_ml_tests.extract.test_incremental import files, put
from etl_ml_tests.extract.test_incremental_sql import Loans
from etl_ml_tests.extract.test_mongodb import loan
from etl_ml_tests.extract.test_rest import order
from etl_ml_tests.extract.test_rest import pipeline_over as rest
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.http import Http, Request, as_json
from etl_ml_tests.servers.mariadb import MariaDB
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.process import free_ports
from etl_ml_tests.servers.s3 import S3

BASE = Path()
AUTOMATION = {"new_data": {"min_rows": 10}}
Documents = Collection[dict[str, Any]]


def new(
    pipeline: Pipeline, raw: Version | None, base: Path = BASE, *, bound: int = 1000, **more: Any
) -> int | None:
    return pending(pipeline, raw, base=base, bound=bound, **more).rows


def snapshot(lake: Lake, pipeline: Pipeline, base: Path = BASE, **more: Any) -> Version:
    """One run of raw_data that reads everything."""
    noted = held(pipeline, base=base, **more)
    read = extract(
        pipeline.source,
        base=base,
        contract=pipeline.contract,
        primary_key=pipeline.row_key(),
        **more,
    )
    return lake.write(pipeline.name, "raw_data", Contents(read.rows, {SOURCE: noted}))


def now(seconds: float = 0) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def over(server: MongoDB, loans: Documents, **incremental: Any) -> Pipeline:
    return pipeline_over(server, loans, source={"incremental": incremental}, automation=AUTOMATION)


class Commands(CommandListener):
    """What clients ask a MongoDB server, and how much it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.on = False

    def started(self, event: Any) -> None:
        if self.on:
            self.asked.append((event.command_name, dict(event.command)))

    def succeeded(self, event: Any) -> None:
        return

    def failed(self, event: Any) -> None:
        return


commands = Commands()
register(commands)


@pytest.fixture
def asked() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Commands of all clients of this process, in order."""
    commands.asked.clear()
    commands.on = True
    yield commands.asked
    commands.on = False


@pytest.mark.parametrize("cursor", ["_id", "updated_at"])
def test_documents_behind_the_cursor_are_counted_until_they_are_read(
    mongodb: MongoDB, lake: Lake, cursor: str
) -> None:
    with collection(mongodb) as loans:
        pipeline = over(mongodb, loans, cursor=cursor)
        assert new(pipeline, None) == 0
        loans.insert_many([loan(i, updated_at=now()) for i in range(60)])
        assert new(pipeline, None) == 60
        version = grown(lake, pipeline, BASE)
        assert new(pipeline, version) == 0
        # An ObjectId has the second of its making: the position is in this one.
        loans.insert_many([loan(i, updated_at=now()) for i in range(7)])
        assert new(pipeline, version) == 7
        version = grown(lake, pipeline, BASE)
        assert version.table.rows == 67
        assert new(pipeline, version) == 0


def test_documents_that_come_late_are_counted_and_those_behind_the_lag_are_not(
    mongodb: MongoDB, lake: Lake
) -> None:
    with collection(mongodb) as loans:
        pipeline = over(mongodb, loans, cursor="updated_at", lag_seconds=60)
        start = now(-10)
        loans.insert_many([loan(i, updated_at=start - timedelta(seconds=i)) for i in range(90)])
        version = grown(lake, pipeline, BASE)
        loans.insert_one(loan(1, updated_at=start - timedelta(seconds=50)))
        assert new(pipeline, version) == 1
        loans.insert_one(loan(1, updated_at=start - timedelta(seconds=70)))
        assert new(pipeline, version) == 1
        version = grown(lake, pipeline, BASE)
        assert (version.table.rows, new(pipeline, version)) == (91, 0)


def test_a_document_that_is_updated_within_the_lag_is_new(mongodb: MongoDB, lake: Lake) -> None:
    with collection(mongodb) as loans:
        pipeline = over(mongodb, loans, cursor="updated_at")
        loans.insert_many([loan(i, updated_at=now(-i)) for i in range(20)])
        version = grown(lake, pipeline, BASE)
        loans.update_one({"age": 25}, {"$set": {"income": 1.0, "updated_at": now()}})
        assert new(pipeline, version) == 1
        loans.delete_many({"age": {"$in": [30, 31]}})  # fewer than there were, and yet one is new
        assert new(pipeline, version) == 1
        version = grown(lake, pipeline, BASE)
        assert (version.table.rows, new(pipeline, version)) == (21, 0)


@pytest.mark.parametrize("cursor", ["_id", "updated_at"])
def test_documents_ahead_of_the_clock_are_counted_once(
    mongodb: MongoDB, lake: Lake, cursor: str
) -> None:
    with collection(mongodb) as loans:
        pipeline = over(mongodb, loans, cursor=cursor, lag_seconds=5)
        ahead = now(3600)

        def fast(number: int) -> dict[str, Any]:
            moment = ahead + timedelta(seconds=number)
            return loan(number, _id=ObjectId.from_datetime(moment), updated_at=moment)

        loans.insert_many([fast(number) for number in range(30)])
        version = grown(lake, pipeline, BASE)
        assert new(pipeline, version) == 0
        version = grown(lake, pipeline, BASE)  # reads them again, and finds nothing new
        assert new(pipeline, version) == 0
        loans.insert_one(loan(1, updated_at=now()))
        loans.insert_one(fast(40))
        assert new(pipeline, version) == 2
        version = grown(lake, pipeline, BASE)
        assert (version.table.rows, new(pipeline, version)) == (32, 0)


def test_a_count_goes_by_the_index_to_its_bound_and_reads_no_document(
    mongodb: MongoDB, lake: Lake, asked: list[tuple[str, dict[str, Any]]]
) -> None:
    with collection(mongodb) as loans:
        loans.create_index([("updated_at", -1), ("age", 1)], name="by_time")
        loans.create_index("updated_at", name="some", partialFilterExpression={"age": {"$gt": 5}})
        pipeline = over(mongodb, loans, cursor="updated_at")
        loans.insert_many([loan(i, updated_at=now(-i)) for i in range(50)])
        version = grown(lake, pipeline, BASE)
        loans.insert_many([loan(i, updated_at=now()) for i in range(500)])
        asked.clear()
        found = pending(pipeline, version, base=BASE, bound=100)
        sent = list(asked)
    assert (found.rows, found.told) == (100, "100 or more new documents by updated_at")
    assert {name for name, _ in sent} <= {"listIndexes", "aggregate", "endSessions"}
    counts = [command for name, command in sent if name == "aggregate"]
    assert [command["hint"] for command in counts] == ["by_time"] * 2
    assert all(command["maxTimeMS"] == 10_000 for command in counts)
    # What was seen around the position, and so many more.
    limits = [stage["$limit"] for c in counts for stage in c["pipeline"] if "$limit" in stage]
    assert sum(limits) == 50 + 200


def test_what_cannot_be_counted_in_time_is_not_known(
    mongodb: MongoDB, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl_ml.extract import mongodb_count

    with collection(mongodb) as loans:
        pipeline = over(mongodb, loans, cursor="updated_at")
        loans.insert_many([loan(i, updated_at=now()) for i in range(5000)])
        version = grown(lake, pipeline, BASE)
        loans.insert_many([loan(i, updated_at=now()) for i in range(5000)])
        monkeypatch.setattr(mongodb_count, "_MILLISECONDS", 1)
        found = pending(pipeline, version, base=BASE, bound=10_000)
    assert found.rows is None
    assert "is there an index on updated_at?" in found.told


def test_a_version_whose_writer_was_killed_before_its_note_heals_with_the_next(
    mongodb: MongoDB, lake: Lake
) -> None:
    with collection(mongodb) as loans:
        pipeline = over(mongodb, loans, cursor="updated_at")
        loans.insert_many([loan(i, updated_at=now()) for i in range(10)])
        written = grown(lake, pipeline, BASE)
        folder = f"{lake.url}/{written.manifest.folder}"
        for name in ("manifest.json", SOURCE):
            Path(folder, name).unlink()
        healed = grown(lake, pipeline, BASE)  # adopts what was committed, and finds nothing new
        adopted = lake.open("loans", "raw_data", written.version)
        assert not adopted.manifest.files
        assert new(pipeline, adopted) == 10
        assert new(pipeline, healed) == 0


def test_a_collection_that_is_read_whole_has_changed_by_number_or_last_id(
    mongodb: MongoDB, lake: Lake
) -> None:
    with collection(mongodb) as loans:
        pipeline = pipeline_over(mongodb, loans, automation=AUTOMATION)
        loans.insert_many([loan(i) for i in range(10)])
        version = snapshot(lake, pipeline)
        assert new(pipeline, version) == 0
        loans.insert_many([loan(i) for i in range(4)])
        assert new(pipeline, version) == 4
        loans.delete_many({"age": {"$gte": 24}})
        loans.insert_one(loan(3))
        assert loans.count_documents({}) == 11
        assert new(pipeline, version) == 1
        part = pipeline_over(mongodb, loans, source={"query": {"age": 18}}, automation=AUTOMATION)
        version = snapshot(lake, part)
        loans.insert_one(loan(1))
        assert new(part, version) == 0
        loans.insert_one(loan(0))
        assert new(part, version) == 1


def watching(server: MongoDB, loans: Documents, **source: Any) -> Pipeline:
    return pipeline_over(server, loans, source=source, automation={"new_data": {"watch": True}})


def test_a_change_stream_goes_on_where_the_last_question_ended(
    mongodb: MongoDB, lake: Lake, asked: list[tuple[str, dict[str, Any]]]
) -> None:
    with collection(mongodb) as loans:
        pipeline = watching(mongodb, loans, incremental={"cursor": "updated_at"})
        loans.insert_many([loan(i, updated_at=now()) for i in range(20)])
        version = grown(lake, pipeline, BASE)
        assert new(pipeline, version) == 0
        loans.insert_many([loan(i, updated_at=now()) for i in range(30)])
        loans.update_one({}, {"$set": {"age": 3}})
        loans.delete_one({"age": 40})
        first = pending(pipeline, version, base=BASE, bound=20)
        assert first.rows == 20
        rest = pending(pipeline, version, base=BASE, bound=20, watched=first.watched)
        assert rest.rows == 31  # deletions say nothing to who reads by a cursor
        again = pending(pipeline, version, base=BASE, bound=20, watched=rest.watched)
        assert again.rows == 31
        lost = pending(pipeline, version, base=BASE, bound=100)  # the sensor's cursor was reset
        assert lost.rows == 31
        version = grown(lake, pipeline, BASE)
        assert new(pipeline, version, watched=again.watched) == 0
        assert not [c for n, c in asked if n == "aggregate" and "$group" in str(c["pipeline"])]


def test_a_lost_history_of_changes_is_made_up_for_by_counting(mongodb: MongoDB, lake: Lake) -> None:
    with collection(mongodb) as loans:
        pipeline = watching(mongodb, loans, incremental={"cursor": "updated_at"})
        loans.insert_many([loan(i, updated_at=now()) for i in range(20)])
        version = grown(lake, pipeline, BASE)
        loans.insert_many([loan(i, updated_at=now()) for i in range(3)])
        noted = version.read(SOURCE)
        lost = lake.write(
            "loans",
            "raw_data",
            Contents(version.table.scan(), {SOURCE: noted | {"token": {"_data": "82"}}}),
        )
        found = pending(pipeline, lost, base=BASE, bound=100)
        assert (found.rows, found.watched) == (3, None)
        assert "the history of changes is lost" in found.told


def test_a_watched_collection_that_was_dropped_is_counted(mongodb: MongoDB, lake: Lake) -> None:
    with collection(mongodb) as loans:
        pipeline = watching(mongodb, loans)
        loans.insert_many([loan(i) for i in range(20)])
        version = snapshot(lake, pipeline)
        assert new(pipeline, version) == 0
        loans.delete_one({})
        assert new(pipeline, version) == 1
        loans.drop()
        loans.insert_many([loan(i) for i in range(12)])
        found = pending(pipeline, version, base=BASE, bound=100)
        assert found.rows == 8
        assert "changed, by about 8 rows (the history of changes is lost)" in found.told


def test_changes_outside_of_the_query_are_not_new(mongodb: MongoDB, lake: Lake) -> None:
    with collection(mongodb) as loans:
        pipeline = watching(
            mongodb, loans, query={"country": "FR"}, incremental={"cursor": "updated_at"}
        )
        loans.insert_many([loan(i, country="FR", updated_at=now()) for i in range(20)])
        version = grown(lake, pipeline, BASE)
        loans.insert_many([loan(i, updated_at=now()) for i in range(5)])
        assert new(pipeline, version) == 0
        loans.insert_one(loan(1, country="FR", updated_at=now()))
        assert new(pipeline, version) == 1


def test_watch_is_for_mongodb_alone() -> None:
    with pytest.raises(InvalidPipeline, match="a file source has no change stream"):
        make_pipeline(automation={"new_data": {"watch": True}})


@pytest.fixture
def loans(mariadb: MariaDB) -> Iterator[Loans]:
    table = Loans(mariadb)
    yield table
    table.run(f"DROP TABLE {table.name}")


def test_rows_of_a_table_are_counted_until_they_are_read(loans: Loans, lake: Lake) -> None:
    pipeline = loans.pipeline("updated_at", lag_seconds=30)
    assert new(pipeline, None) == 0
    for key in range(20):
        loans.put(key)
    assert (new(pipeline, None), new(pipeline, None, bound=7)) == (20, 7)
    version = grown(lake, pipeline, BASE)
    assert new(pipeline, version) == 0
    loans.put(20, seconds=-10)  # late
    loans.put(21, seconds=-60)  # too late
    loans.put(22, seconds=3600)
    assert new(pipeline, version) == 2
    loans.put(3, age=31)  # from within the lag to its end: it hides the one that came late
    assert new(pipeline, version) == 2
    version = grown(lake, pipeline, BASE)
    assert (version.table.rows, new(pipeline, version)) == (23, 0)


def test_a_lag_in_rows_is_counted_by_rows(loans: Loans, lake: Lake) -> None:
    pipeline = loans.pipeline("id", lag_rows=5)
    for key in range(0, 60, 2):
        loans.put(key)
    version = grown(lake, pipeline, BASE)
    assert new(pipeline, version) == 0
    loans.put(55)
    loans.put(3)  # further behind than five rows
    loans.put(60)
    assert new(pipeline, version) == 2
    version = grown(lake, pipeline, BASE)
    assert (version.table.rows, new(pipeline, version)) == (32, 0)


def test_a_statement_that_takes_too_long_is_ended_by_the_server(
    mariadb: MariaDB, loans: Loans, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl_ml.extract import sql_count

    for key in range(20):
        loans.put(key)
    pipeline = loans.pipeline("id")
    slow = pipeline.source.model_copy(
        update={"table": None, "query": f"SELECT * FROM {loans.name} WHERE SLEEP(1) = 0"}
    )
    monkeypatch.setattr(sql_count, "SECONDS", 2.0)
    start = time.monotonic()
    found = pending(pipeline.model_copy(update={"source": slow}), None, base=BASE, bound=100)
    assert time.monotonic() - start < 15
    assert found.rows is None
    assert "is there an index on id?" in found.told
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW PROCESSLIST")
        assert not [row for row in cursor if "SLEEP" in str(row[7])]


def test_a_table_that_is_read_whole_has_changed_by_number_or_largest_key(
    loans: Loans, lake: Lake
) -> None:
    given = loans.pipeline("id")
    source = given.source.model_copy(update={"incremental": None})
    pipeline = given.model_copy(update={"source": source})
    for key in range(10):
        loans.put(key)
    version = snapshot(lake, pipeline)
    assert new(pipeline, version) == 0
    loans.put(30)
    assert new(pipeline, version) == 1
    loans.run(f"DELETE FROM {loans.name} WHERE id < 4")
    assert new(pipeline, version) == 3


def test_new_files_count_by_the_bytes_that_rows_had(tmp_path: Path, lake: Lake) -> None:
    put(tmp_path, "a.csv", *((key, 10) for key in range(200)))
    pipeline = files(tmp_path)
    assert new(pipeline, None, tmp_path, bound=55) == 55  # nobody knows how many
    version = grown(lake, pipeline, tmp_path)
    assert new(pipeline, version, tmp_path) == 0
    put(tmp_path, "b.csv", *((key, 10) for key in range(200, 300)))
    found = pending(pipeline, version, base=tmp_path, bound=10)
    assert found.rows == pytest.approx(100, rel=0.2)
    assert "1 new file, about" in found.told
    put(tmp_path, "b.csv", *((key, 10) for key in range(200, 301)))
    assert pending(pipeline, version, base=tmp_path, bound=10).mark != found.mark
    version = grown(lake, pipeline, tmp_path)
    assert new(pipeline, version, tmp_path) == 0
    put(tmp_path, "a.csv", (1, 2))
    with pytest.raises(SourceError, match="has changed since it was read"):
        new(pipeline, version, tmp_path)


def test_files_that_are_read_whole_have_changed_by_name_size_or_time(
    tmp_path: Path, lake: Lake
) -> None:
    pipeline = make_pipeline(
        source={"path": "in/*.csv"}, contract=files(tmp_path).contract.model_dump()
    )
    put(tmp_path, "a.csv", *((key, 10) for key in range(100)))
    version = snapshot(lake, pipeline, tmp_path)
    assert new(pipeline, version, tmp_path) == 0
    time.sleep(0.01)
    put(tmp_path, "a.csv", *((key, 11) for key in range(100)))
    assert new(pipeline, version, tmp_path) == 1  # how many of its rows, nobody can tell
    put(tmp_path, "b.csv", *((key, 11) for key in range(100)))
    assert new(pipeline, version, tmp_path) == pytest.approx(100, rel=0.1)


def test_objects_of_a_bucket_are_listed(s3: S3, lake: Lake) -> None:
    bucket, body = s3.bucket(), b"id,age,defaulted\n" + b"1,10,0\n" * 50
    settings = StoreSettings(s3.endpoint, "us-east-1", s3.key, s3.secret)
    s3.client().put_object(Bucket=bucket, Key="in/a.csv", Body=body)
    pipeline = make_pipeline(
        source={"path": f"s3://{bucket}/in/*.csv", "incremental": {}},
        contract=files(BASE).contract.model_dump(),
    )
    from etl_ml.extract import extract_new

    def grow(head: Any) -> Any:
        return extract_new(pipeline, head, base=BASE, settings=settings)

    version = lake.write("loans", "raw_data", Contents(grow=grow))
    assert new(pipeline, version, settings=settings) == 0
    s3.client().put_object(Bucket=bucket, Key="in/b.csv", Body=body)
    assert new(pipeline, version, settings=settings) == 50
    expired = StoreSettings(s3.endpoint, "us-east-1", s3.key, "expired-secret")
    with pytest.raises(SourceError) as caught:
        new(pipeline, version, settings=expired)
    assert not caught.value.heals
    assert "expired-secret" not in str(caught.value)


def test_the_first_page_of_an_api_tells_what_is_new(http: Http, lake: Lake) -> None:
    there = [order(i) for i in range(10)]

    def answer(request: Request) -> Any:
        since = request.query.get("since", "")
        return as_json([one for one in there if one["updated_at"] >= since])

    http.routes["/orders"] = answer
    pipeline = rest(
        http,
        params={"since": "{cursor}"},
        incremental={"cursor": "updated_at", "lag_seconds": 3},
    )
    assert new(pipeline, None) == 10
    version = grown(lake, pipeline, BASE)
    assert new(pipeline, version) == 0
    there += [order(i) for i in range(10, 14)]
    there.append(order(8, id=99))
    before = len(http.requests)
    assert new(pipeline, version) == 5
    assert len(http.requests) == before + 1
    version = grown(lake, pipeline, BASE)
    assert (version.table.rows, new(pipeline, version)) == (15, 0)


def test_an_api_that_is_down_is_asked_once_and_may_heal(http: Http) -> None:
    http.serve("/orders", (503, {"Retry-After": "60"}, b"busy"))
    pipeline = rest(http, incremental={"cursor": "updated_at"})
    with pytest.raises(SourceUnavailable, match="503"):
        new(pipeline, None)
    assert len(http.requests) == 1


def test_an_api_that_is_read_whole_cannot_tell(http: Http, lake: Lake) -> None:
    http.serve("/orders", as_json([order(1)]))
    pipeline = rest(http)
    assert new(pipeline, snapshot(lake, pipeline)) is None


def test_items_of_a_table_are_those_that_the_service_counts(
    dynamodb: DynamoDB, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in dynamodb.environment.items():
        monkeypatch.setenv(name, value)
    table = dynamodb.table()
    columns = {"id": {"type": "string"}, "defaulted": {"type": "integer"}, "a": {"type": "float"}}
    pipeline = make_pipeline(
        source={"type": "dynamodb", "table": table.name},
        contract={"columns": columns, "unknown_columns": "drop"},
    )
    for number in range(5):
        table.put_item(Item={"id": str(number), "defaulted": 1})
    version = snapshot(lake, pipeline)
    assert new(pipeline, version) == 0
    for number in range(5, 8):
        table.put_item(Item={"id": str(number), "defaulted": 1})
    assert new(pipeline, version) == 3


@pytest.mark.parametrize(
    ("source", "heals"),
    [
        ({"type": "mongodb", "uri": "mongodb://127.0.0.1:{port}", "database": "d"}, True),
        ({"type": "sql", "url": "mysql://root@127.0.0.1:{port}/test"}, True),
        ({"type": "rest_api", "base_url": "http://127.0.0.1:{port}"}, True),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else "",
)
def test_a_server_that_is_gone_is_told_within_seconds(source: dict[str, Any], heals: bool) -> None:
    port = str(free_ports(1)[0])
    filled = {name: value.replace("{port}", port) for name, value in source.items()}
    where = {"mongodb": {"collection": "c"}, "sql": {"table": "t"}}.get(source["type"], {})
    columns = {"id": {"type": "integer"}, "defaulted": {"type": "integer"}}
    pipeline = make_pipeline(
        source={**filled, **where, "incremental": {"cursor": "id"}},
        contract={"columns": {**columns, "a": {"type": "float"}}, "primary_key": ["id"]},
    )
    start = time.monotonic()
    with pytest.raises(SourceError) as caught:
        new(pipeline, None)
    assert time.monotonic() - start < 20
    assert caught.value.heals is heals
    assert caught.value.fix


def test_a_refused_user_does_not_heal(mariadb: MariaDB) -> None:
    with mariadb.connect() as connection:
        connection.cursor().execute("CREATE USER IF NOT EXISTS reader IDENTIFIED BY 'right'")
        connection.commit()
    columns = {"id": {"type": "integer"}, "defaulted": {"type": "integer"}, "a": {"type": "float"}}
    pipeline = make_pipeline(
        source={
            "type": "sql",
            "url": f"mysql://reader:wrong-secret@127.0.0.1:{mariadb.port}/test",
            "table": "t",
            "incremental": {"cursor": "id"},
        },
        contract={"columns": columns, "primary_key": ["id"]},
    )
    with pytest.raises(SourceError) as caught:
        new(pipeline, None)
    assert not caught.value.heals
    assert "wrong-secret" not in str(caught.value)
