"""A pipeline that is left alone with Dagster's real daemon, and with those who kill it."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo.collection import Collection

from etl_ml.lake import Log
from etl_ml_tests.extract.collections import collection
from etl_ml_tests.orchestration.test_sensors import automation
from etl_ml_tests.orchestration.test_sources import documents, orders
from etl_ml_tests.project import Project, failure_message
from etl_ml_tests.serve.serving import Serving, serving
from etl_ml_tests.servers.daemon import Daemon, until
from etl_ml_tests.servers.http import Http
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.prometheus import Prometheus

pytestmark = pytest.mark.timeout(2400)

Documents = Collection[dict[str, Any]]
_PATIENCE = 300  # seconds for what takes ten on a machine of one's own
_ANY_MODEL = {"max_overfit": None, "champion": {"rule": "ignore"}}
# ETL_ML_TEST_KILLS=50 takes a quarter of an hour, over 10,000 documents.
_KILLS = int(os.environ.get("ETL_ML_TEST_KILLS", "5"))
_WRITERS, _EACH = 8, 25 * _KILLS


@pytest.fixture
def source(mongodb: MongoDB, monkeypatch: pytest.MonkeyPatch) -> Iterator[Documents]:
    monkeypatch.setenv("LOANS_URI", mongodb.uri)
    with collection(mongodb) as there:
        yield there


@pytest.fixture
def daemon(mongodb: MongoDB, project: Project, source: Documents, http: Http) -> Iterator[Daemon]:
    """A daemon that is not started yet, and a pipeline whose first run was good."""
    asked = orders(mongodb, source.database.name, incremental={"cursor": "updated_at"})
    settings = {"every_seconds": 5, "min_rows": 100, "max_wait_seconds": 10}
    by_itself = automation(**settings, train_every_rows=500)
    alert = {"type": "webhook", "url": f"{http.url}/hook", "on": ["model_deployed"]}
    by_itself["automation"]["alerts"] = [alert]
    project.add(asked | by_itself | {"evaluation": _ANY_MODEL})
    source.insert_many(documents(600))
    found = Daemon(project, LOANS_URI=mongodb.uri)
    first = project.materialize(instance=found.instance)
    assert first.success, failure_message(first)
    yield found
    found.stop()


def rows(project: Project) -> int:
    return project.lake.table("loans", "raw_data").rows


@pytest.fixture
def service(daemon: Daemon, project: Project) -> Iterator[Serving]:
    """What serves the first run's champion, and looks for the next."""
    with serving(project.lake.url, "loans", "--poll-seconds", "1") as running:
        yield running


def test_from_an_insert_to_the_model_that_is_served(
    daemon: Daemon,
    project: Project,
    source: Documents,
    mongodb: MongoDB,
    service: Serving,
    prometheus: Prometheus,
    http: Http,
) -> None:
    http.serve("/hook", (200, {}, b"ok"))
    daemon.start()
    assert service.get("/version").json["version"] == "0000000001"

    def told() -> object:
        return daemon.skips("loans_new_data"), daemon.log()

    def idle() -> bool:
        runs = daemon.instance.get_runs()
        said = daemon.skips("loans_new_data", last=1)
        return all(run.is_finished for run in runs) and said == ["0 new documents by updated_at"]

    until(idle, _PATIENCE, told)
    source.insert_many(documents(150, seed=1))
    until(lambda: project.lake.table("loans", "clean_data").rows == 750, _PATIENCE, told)
    until(idle, _PATIENCE, told)
    source.insert_many(documents(7, seed=2))  # few: after ten seconds they are read, too
    until(lambda: rows(project) == 757, _PATIENCE, told)
    until(idle, _PATIENCE, told)
    assert project.lake.versions("loans", "trained_model") == ["0000000001"]

    mongodb.stop()
    until(lambda: "no server answers" in str(daemon.skips("loans_new_data")), _PATIENCE, told)
    before = daemon.instance.get_runs_count()
    time.sleep(12)
    assert daemon.instance.get_runs_count() == before
    mongodb.start()
    source.insert_many(documents(400, seed=3))
    until(
        lambda: project.lake.versions("loans", "model_evaluation") == ["0000000001", "0000000002"],
        _PATIENCE,
        told,
    )
    until(idle, _PATIENCE, told)
    assert rows(project) == 1157
    # Three times something came: three runs, and no more for having looked so often.
    assert daemon.instance.get_runs_count() == before + 1 == 4
    assert all(run.is_success for run in daemon.instance.get_runs())

    # The new champion is served, measured and told of.
    head = Log(project.lake, "loans").head()
    assert head is not None
    assert head.version == "0000000002"
    until(lambda: service.get("/version").json["version"] == "0000000002", 60, lambda: service.log)
    row = {"age": 30, "income": 1e4, "country": "DE", "opened": "2001-05-06T00:00:00"}
    assert service.post([row]).json["version"] == "0000000002"
    prometheus.configure(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: serve\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{service.port}']}}]\n"
    )
    prometheus.wait_for('etl_ml_serve_model_info{version="0000000002"} == 1')
    prometheus.wait_for('etl_ml_live_rows_total{version="0000000002"} == 1')

    def alerts() -> list[str]:
        return [notice["what"] for r in http.requests for notice in r.json()["notices"]]

    until(lambda: "model 0000000002 is the champion" in alerts(), _PATIENCE, alerts)


def test_two_daemons_do_not_double_a_run(
    daemon: Daemon, project: Project, source: Documents
) -> None:
    daemon.start()
    daemon.start()
    expected, runs = 600, daemon.instance.get_runs_count()
    for seed in range(1, 4):
        source.insert_many(documents(120, seed=seed))
        expected += 120
        until(
            lambda: (
                rows(project) == expected  # noqa: B023
                and all(run.is_finished for run in daemon.instance.get_runs())
            ),
            _PATIENCE,
            lambda: (daemon.skips("loans_new_data"), daemon.log()),
        )
    assert len(daemon.processes("daemon")) == 2
    brought = [
        version
        for version in project.lake.versions("loans", "raw_data")[1:]
        if project.lake.open("loans", "raw_data", version).table.stamp["version"] == version
    ]
    assert len(brought) == 3
    assert daemon.instance.get_runs_count() == runs + 3


def _await(daemon: Daemon, kind: str, seconds: float) -> None:
    """Until there is such a process, or for so long."""
    end = time.monotonic() + seconds
    while not daemon.processes(kind) and time.monotonic() < end:
        time.sleep(0.2)


class Writers:
    """Eight clients that insert documents out of order: by id, by time, and by each other."""

    def __init__(self, source: Documents) -> None:
        self._source = source
        self._threads = [
            threading.Thread(target=self._write, args=(number,)) for number in range(_WRITERS)
        ]
        self._gone = threading.Event()
        for thread in self._threads:
            thread.start()

    def _write(self, number: int) -> None:
        draw = random.Random(number)
        left = [
            {key: value for key, value in row.items() if key != "updated_at"}
            for row in documents(_EACH, seed=number + 1)
        ]
        while left and not self._gone.is_set():
            some = [left.pop() for _ in range(min(draw.randint(1, 25), len(left)))]
            for row in some:
                moment = datetime.now(UTC) - timedelta(seconds=draw.uniform(0, 15))
                row |= {"_id": ObjectId(), "updated_at": moment}
            draw.shuffle(some)
            self._source.insert_many(some, ordered=False)
            time.sleep(draw.uniform(0, 2))

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        self._gone.set()
        self.join()


def test_kills_cost_no_document_and_double_none(
    daemon: Daemon, project: Project, source: Documents, mongodb: MongoDB
) -> None:
    before = daemon.instance.get_runs_count()
    draw = random.Random(0)
    # Of the runs some end in order, so that the others are killed in all places.
    victims = [("run",)] * 20 + [("code server",)] * 12 + [("daemon",)] * 12
    victims += [("daemon", "code server", "run")] * 6
    draw.shuffle(victims)
    del victims[_KILLS:]
    kills: Counter[str] = Counter()
    writers = Writers(source)
    try:
        while kills.total() < len(victims):
            chosen = victims[kills.total()]
            if not daemon.is_running():
                daemon.start()
            _await(daemon, chosen[-1], 15)
            time.sleep(draw.uniform(0, 10 if chosen == ("run",) else 3))
            if daemon.kill(*chosen) or daemon.kill("code server"):
                kills[" and ".join(chosen)] += 1
        writers.join()
    finally:
        writers.stop()
    if not daemon.is_running():
        daemon.start()
    everything = {str(d["_id"]) for d in source.find({}, {"_id": 1})}
    assert len(everything) == 600 + _WRITERS * _EACH
    until(
        lambda: (
            rows(project) >= len(everything)
            and project.lake.table("loans", "clean_data").rows >= len(everything)
        ),
        2 * _PATIENCE,
        lambda: (kills, rows(project), daemon.skips("loans_new_data"), daemon.log()),
    )
    found = project.lake.table("loans", "raw_data").to_polars()["_id"].to_list()
    assert len(found) == len(everything)
    assert set(found) == everything
    # One for each kill at most, and one for each hundred documents.
    runs = daemon.instance.get_runs_count() - before
    print(f"{kills} {runs} runs")
    assert runs <= len(victims) + _WRITERS * _EACH // 100
