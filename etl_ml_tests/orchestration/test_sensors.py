"""The sensors: when they ask for a run, for which, and never twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import dagster as dg
import polars as pl
import pytest
from dagster._core.test_utils import create_run_for_test
from pymongo.collection import Collection

from etl_ml.lake import Lake, Log
from etl_ml.lake.heartbeat import beating, signs
from etl_ml.orchestration import looks, sensors
from etl_ml_tests.extract.collections import collection
from etl_ml_tests.orchestration.test_sources import documents, orders
from etl_ml_tests.orchestration.ticks import Ticks, assets, made, ticking
from etl_ml_tests.project import Project, attributes, failure_message, loans
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.process import free_ports

DATA = {"raw_data", "validated_data", "quarantined_data", "clean_data"}
MODEL = {"transformed_arrays", "trained_model", "model_evaluation", "deployed_model"}
Documents = Collection[dict[str, Any]]


def automation(**new_data: Any) -> dict[str, Any]:
    asked = {"min_rows": 100, "every_seconds": 30, "max_wait_seconds": 600, **new_data}
    return {"automation": {"new_data": asked}}


class Clock:
    """The clock of the sensor's machine, moved by the test."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Iterator[Clock]:
    moved = Clock()
    with patch.object(sensors, "time", moved):
        yield moved


@pytest.fixture
def source(mongodb: MongoDB, monkeypatch: pytest.MonkeyPatch) -> Iterator[Documents]:
    monkeypatch.setenv("LOANS_URI", f"{mongodb.uri}/?serverSelectionTimeoutMS=1000")
    with collection(mongodb) as there:
        yield there


@pytest.fixture
def ticks(mongodb: MongoDB, project: Project, source: Documents) -> Iterator[Ticks]:
    """The sensor over a collection that is read by `updated_at`."""
    asked = orders(mongodb, source.database.name, incremental={"cursor": "updated_at"})
    project.add(asked | automation())
    with ticking(project) as found:
        yield found


@pytest.fixture
def settled(ticks: Ticks, source: Documents) -> Ticks:
    """The same, after a first run over 600 documents that has deployed a model."""
    source.insert_many(documents(600))
    first = ticks.run(ticks.request())
    assert first.success, failure_message(first)
    assert made(first)[-1] == "deployed_model"
    return ticks


def test_each_is_running_as_soon_as_its_key_is_set(project: Project) -> None:
    asked = {"new_data": {"every_seconds": 45}, "schedule": "0 3 * * 1-5"}
    project.add(attributes(automation={**asked, "retrain_on_drift": True}))
    project.add(attributes(name="cards"), folder="cards")
    with project.loaded() as defs:
        repository = defs.get_repository_def()
        found = {sensor.name: sensor for sensor in repository.sensor_defs}
        # Dagster's own follows what is above, where somebody turns it on.
        off = found.pop("default_automation_condition_sensor")
        assert off.default_status == dg.DefaultSensorStatus.STOPPED
        assert set(found) == {"loans_new_data", "loans_retrain"}
        assert {s.default_status for s in found.values()} == {dg.DefaultSensorStatus.RUNNING}
        assert found["loans_new_data"].minimum_interval_seconds == 45
        (schedule,) = repository.schedule_defs
        assert (schedule.name, schedule.cron_schedule) == ("loans_schedule", "0 3 * * 1-5")
        assert schedule.execution_timezone == "UTC"
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
        assert {schedule.job_name, *(s.job_name for s in found.values())} == {"loans_job"}


def test_loading_sensors_and_schedules_loads_nothing_heavy(project: Project) -> None:
    asked = {"new_data": {}, "schedule": "@daily", "retrain_on_drift": True}
    project.add(attributes(automation=asked))
    heavy = ("pandas", "sklearn", "polars", "pyarrow", "deltalake", "pymongo", "dagster_aws")
    code = (
        "import sys\n"
        "import etl_ml\n"
        "from pathlib import Path\n"
        f"found = etl_ml.load_pipelines(Path({str(project.package)!r}))\n"
        "repository = found.get_repository_def()\n"
        "assert {s.name for s in repository.sensor_defs} > {'loans_new_data', 'loans_retrain'}\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
    )
    run = project.run([sys.executable, "-W", "ignore", "-c", code])
    assert run.stdout.strip() == "[]", run.stderr[-2000:]


@pytest.mark.parametrize("cron", ["0 25 * * *", "every day", "0 3 * *", "0 0 30 2 *"])
def test_a_schedule_that_never_fires_is_named_at_load(project: Project, cron: str) -> None:
    project.add(attributes(automation={"schedule": cron}))
    told = "schedule is no cron expression"
    with pytest.raises(Exception, match=told) as refused, project.loaded():
        pass
    assert repr(cron) in str(refused.value)
    assert "defs.yaml" in str(refused.value)
    assert "'0 3 * * 1-5' is 03:00 on weekdays" in str(refused.value)


def test_enough_new_documents_ask_for_one_run_and_fewer_wait(
    ticks: Ticks, source: Documents, project: Project, clock: Clock
) -> None:
    assert ticks.reason() == "0 documents, nothing was read yet"
    source.insert_many(documents(600))
    request = ticks.request()
    assert assets(request) is None
    assert request.run_key == "loans:none-first:train"
    assert request.tags["etl_ml/because"] == "100 or more documents, nothing was read yet"
    first = ticks.run(request)
    assert first.success, failure_message(first)
    assert ticks.reason() == "0 new documents by updated_at"
    source.insert_many(documents(99, seed=1))
    clock.ahead = 60
    told = ticks.reason()
    assert "99 new documents by updated_at; a run for 100 rows, or in 600 s" in told
    clock.ahead = 400
    assert "or in 260 s" in ticks.reason()
    clock.ahead = 661
    request = ticks.request()
    assert request.tags["etl_ml/because"] == "99 new documents by updated_at, for 601 s"
    assert ticks.run(request).success
    assert project.lake.table("loans", "raw_data").rows == 699
    assert ticks.reason() == "0 new documents by updated_at"


def test_a_run_trains_only_when_enough_has_come_since_the_last_training(
    settled: Ticks, source: Documents, project: Project
) -> None:
    project.add(_described(project) | automation(min_rows=20, train_every_rows="10%"))
    with project.loaded() as defs:
        ticks = Ticks(defs, settled.instance, "loans_new_data")
        source.insert_many(documents(35, seed=1))
        request = ticks.request()
        assert assets(request) == DATA
        result = ticks.run(request)
        assert result.success
        assert set(made(result)) == DATA
        assert project.lake.table("loans", "clean_data").rows == 635
        assert ticks.reason() == "0 new documents by updated_at"
        source.insert_many(documents(30, seed=2))  # with the 35 before, a tenth of 600
        request = ticks.request()
        assert assets(request) is None
        assert request.tags["etl_ml/goal"] == "train"


def test_rows_that_came_without_the_sensor_are_trained_on_without_reading_again(
    settled: Ticks, source: Documents, project: Project
) -> None:
    source.insert_many(documents(90, seed=1))
    assert project.materialize(*DATA, instance=settled.instance).success
    request = settled.request()
    assert assets(request) == MODEL
    assert request.tags["etl_ml/because"] == "90 rows since the last training"
    result = settled.run(request)
    assert result.success, failure_message(result)
    assert set(made(result)) >= MODEL - {"deployed_model"}
    assert settled.reason() == "0 new documents by updated_at"


def _described(project: Project) -> dict[str, Any]:
    import yaml

    text = (project.package / "defs" / "loans" / "defs.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)["attributes"]
    return found


def test_a_run_that_found_nothing_new_ends_before_it_trains(
    settled: Ticks, source: Documents, project: Project
) -> None:
    source.insert_many(documents(120, seed=1))
    request = settled.request()
    assert settled.run(request).success
    models = project.lake.versions("loans", "trained_model")
    late = settled.run(request)  # as by a daemon that was hung for an hour
    assert late.success
    assert made(late) == ["raw_data"]
    assert project.lake.versions("loans", "trained_model") == models
    assert project.lake.table("loans", "raw_data").rows == 720
    by_hand = project.materialize(instance=settled.instance)  # whoever asks for all gets all
    assert "trained_model" in made(by_hand)


@pytest.mark.parametrize("seen", ["by tag", "by selection", "by all assets"])
def test_one_run_at_a_time(settled: Ticks, source: Documents, seen: str) -> None:
    source.insert_many(documents(200, seed=1))
    how: dict[str, Any] = {
        "by tag": {"job_name": "loans_job", "tags": {"etl_ml/pipeline": "loans"}},
        "by selection": {
            "job_name": "__ASSET_JOB",
            "asset_selection": {dg.AssetKey(["loans", "clean_data"])},
        },
        "by all assets": {"job_name": "__ASSET_JOB"},
    }[seen]
    run = create_run_for_test(settled.instance, status=dg.DagsterRunStatus.STARTED, **how)
    for _ in range(50):
        assert settled.reason() == f"run {run.run_id[:8]} (started) is at work"
    settled.instance.delete_run(run.run_id)
    create_run_for_test(  # of another pipeline
        settled.instance,
        job_name="__ASSET_JOB",
        status=dg.DagsterRunStatus.STARTED,
        asset_selection={dg.AssetKey(["cards", "clean_data"])},
    )
    assert settled.request().run_key


def test_a_run_of_another_instance_is_seen_by_its_sign_of_life(
    settled: Ticks, source: Documents, project: Project
) -> None:
    source.insert_many(documents(200, seed=1))
    with beating(lambda: project.lake, "loans", "elsewhere"):
        _until(lambda: bool(signs(project.lake, "loans")))
        told = settled.reason()
    assert told == "run elsewher of another Dagster instance is at work"
    assert signs(project.lake, "loans") == []
    assert settled.request().run_key


def _until(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


_BEATS = """
import sys, time
from etl_ml.lake import open_lake
from etl_ml.lake.heartbeat import beating
with beating(lambda: open_lake(sys.argv[1]), "loans", sys.argv[2]):
    time.sleep(600)
"""


def test_a_run_whose_process_was_killed_is_marked_as_failed_and_asked_for_again(
    settled: Ticks, source: Documents, project: Project, clock: Clock
) -> None:
    source.insert_many(documents(200, seed=1))
    tags = {"etl_ml/pipeline": "loans"}
    run = create_run_for_test(
        settled.instance, job_name="loans_job", status=dg.DagsterRunStatus.STARTED, tags=tags
    )
    command = [sys.executable, "-c", _BEATS, project.lake.url, run.run_id]
    process = subprocess.Popen(command, env=project.environment())
    try:
        _until(lambda: bool(signs(project.lake, "loans")))
        for _ in range(5):
            assert "(started) is at work" in settled.reason()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    told = settled.reason()
    assert told.startswith(f"the last run failed, {run.run_id[:8]}; it is asked for again in ")
    failed = settled.instance.get_run_by_id(run.run_id)
    assert failed is not None
    assert failed.status == dg.DagsterRunStatus.FAILURE
    assert signs(project.lake, "loans") == []
    clock.ahead = 31
    assert settled.request().run_key.endswith(f"{run.run_id}:train")


def test_a_process_elsewhere_is_dead_when_its_sign_has_not_changed_for_long(
    settled: Ticks, source: Documents, project: Project
) -> None:
    source.insert_many(documents(200, seed=1))
    tags = {"etl_ml/pipeline": "loans"}
    run = create_run_for_test(
        settled.instance, job_name="loans_job", status=dg.DagsterRunStatus.STARTED, tags=tags
    )
    name = f"loans/alive/{run.run_id}/1.json"

    def beat(number: int) -> None:
        sign = {"beat": number, "process": "another-machine pid:[1] 7 7"}
        project.lake.backend.put(name, json.dumps(sign).encode())

    beat(0)
    for _ in range(9):
        assert "is at work" in settled.reason()
    beat(1)
    for _ in range(10):  # 300 s, looked at every 30
        assert "is at work" in settled.reason()
    settled.reason()
    failed = settled.instance.get_run_by_id(run.run_id)
    assert failed is not None
    assert failed.is_finished
    assert project.lake.backend.get(name) is None


def test_after_failures_it_asks_again_ever_later_and_the_key_is_a_new_one(
    settled: Ticks, source: Documents, project: Project, clock: Clock
) -> None:
    source.insert_many(documents(200, seed=1))
    keys, waits = set(), []
    for number in range(6):
        request = settled.request()
        keys.add(request.run_key)
        create_run_for_test(
            settled.instance,
            job_name="loans_job",
            status=dg.DagsterRunStatus.FAILURE,
            tags={"etl_ml/pipeline": "loans"},
        )
        clock.ahead = 0
        told = settled.reason()
        assert told.startswith(
            "the last run failed" if number == 0 else f"{number + 1} runs in a row have failed"
        )
        waits.append(int(told.split("again in ")[1].removesuffix(" s")))
        clock.ahead = waits[-1] - 5
        assert "failed" in settled.reason()
        clock.ahead = waits[-1] + 1
    assert len(keys) == 6
    for wait, expected in zip(waits, [30, 60, 120, 240, 480, 960], strict=True):
        assert expected - 10 < wait <= expected
    assert (settled.instance.get_runs_count() - 1) == 6
    for run in settled.instance.get_runs():  # the person who looks at it clears the list
        settled.instance.delete_run(run.run_id)
    assert settled.request().run_key
    create_run_for_test(
        settled.instance,
        job_name="loans_job",
        status=dg.DagsterRunStatus.FAILURE,
        tags={"etl_ml/pipeline": "loans"},
    )
    clock.ahead = -86_400  # a wait until then would be one of a day
    assert settled.request().run_key


def test_failures_wait_for_an_hour_at_most() -> None:
    from etl_ml.orchestration.due import backoff

    assert [backoff(30, n) for n in range(1, 9)] == [30, 60, 120, 240, 480, 960, 1920, 3600]
    assert backoff(7200, 3) == 7200


def test_a_run_that_was_killed_between_two_assets_is_made_up_for(
    settled: Ticks, source: Documents, project: Project
) -> None:
    source.insert_many(documents(120, seed=1))
    assert project.materialize("raw_data", instance=settled.instance).success
    request = settled.request()
    assert assets(request) == (DATA | MODEL) - {"raw_data"}
    assert request.tags["etl_ml/because"] == "raw_data is newer than what was made from it"
    result = project.materialize(
        *(DATA | MODEL) - {"raw_data", "deployed_model"}, instance=settled.instance
    )
    assert result.success, failure_message(result)
    deployable = project.lake.read("loans", "model_evaluation", "evaluation_report.json")
    if deployable["deployable"]:
        # The key of the request that nobody has launched is claimed for two more looks.
        request = settled.request(looks=3)
        assert assets(request) == {"deployed_model"}
        assert settled.run(request).success
    head = Log(project.lake, "loans").head()
    assert head is not None
    assert head.version == ("0000000002" if deployable["deployable"] else "0000000001")
    assert settled.reason() == "0 new documents by updated_at"


def test_a_refusal_by_validation_is_asked_about_again_only_when_something_changed(
    settled: Ticks, source: Documents, project: Project, clock: Clock
) -> None:
    source.insert_many([{**one, "age": 7} for one in documents(150, seed=1)])
    failed = settled.run(settled.request())
    assert not failed.success
    for _ in range(20):
        clock.ahead += 3700
        told = settled.reason()
    assert "validation stopped at raw_data, its rows break the contract; it waits until" in told
    contract = _described(project)["contract"]
    contract["columns"]["age"]["min"] = 5
    project.add(_described(project) | {"contract": contract})
    with project.loaded() as defs:
        mended = Ticks(defs, settled.instance, "loans_new_data")
        request = mended.request()
        assert assets(request) == (DATA | MODEL) - {"raw_data"}
        assert mended.run(request).success
    assert project.lake.table("loans", "clean_data").rows == 750


def test_a_source_that_is_down_is_told_and_asked_again_ever_later(
    settled: Ticks, source: Documents, mongodb: MongoDB, clock: Clock
) -> None:
    source.insert_many(documents(200, seed=1))
    mongodb.stop()
    told = []
    for _ in range(120):  # an hour
        told.append(settled.reason())
        clock.ahead += 30
    assert "no server answers" in told[0]
    assert "the source gave no answer" in told[-1] or "no server answers" in told[-1]
    assert sum("no server answers" in one for one in told) < 20
    mongodb.start()
    clock.ahead += 300
    assert assets(settled.request()) is None


def test_credentials_that_are_refused_are_told_without_them(
    mongodb: MongoDB, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"mongodb://loans:expired-secret@127.0.0.1:{mongodb.port}"
    monkeypatch.setenv("LOANS_URI", uri)
    project.add(orders(mongodb, "loans", incremental={"cursor": "_id"}) | automation())
    with ticking(project) as ticks:
        told = ticks.reason()
        assert "the server refuses the user" in told
        assert "correct user and password" in told
        assert "expired-secret" not in told + str(ticks.cursor)


def test_a_look_that_takes_too_long_is_not_begun_twice(
    project: Project, mongodb: MongoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", free_ports(1)[0])) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("LOANS_URI", f"mongodb://127.0.0.1:{port}/?connectTimeoutMS=4000")
        monkeypatch.setattr(looks, "LOOK_SECONDS", 1.0)
        project.add(orders(mongodb, "loans", incremental={"cursor": "_id"}) | automation())
        with ticking(project) as ticks:
            before = threading.active_count()
            assert ticks.reason() == "the look has not ended within 1 s; it goes on"
            for _ in range(3):
                assert ticks.reason() == "the look before this one has not ended yet"
            assert threading.active_count() < before + 12
            _until(lambda: "no server answers" in ticks.reason(), 60)


def test_of_two_daemons_one_asks(settled: Ticks, source: Documents, project: Project) -> None:
    source.insert_many(documents(200, seed=1))
    daemons = []
    for _ in range(4):
        with project.loaded() as defs:
            daemons.append(Ticks(defs, settled.instance, "loans_new_data"))
    found: list[dg.SensorResult] = []
    threads = [threading.Thread(target=lambda d=d: found.append(d.look())) for d in daemons]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([result for result in found if result.run_requests]) == 1
    told = {str(r.skip_reason.skip_message) for r in found if r.skip_reason is not None}
    assert told == {"another daemon has asked for the run"}


def test_a_daemon_that_was_killed_before_its_run_began_is_stood_in_for(
    settled: Ticks, source: Documents
) -> None:
    source.insert_many(documents(200, seed=1))
    key = settled.request().run_key
    assert settled.reason() == "another daemon has asked for the run"
    assert settled.request(looks=2).run_key == key


def test_a_cursor_that_is_lost_or_broken_costs_nothing(settled: Ticks, source: Documents) -> None:
    for cursor in (None, "", "{", "[]", '{"waits_since": 1, "unknown": 2}', "null"):
        settled.cursor = cursor
        assert settled.reason() == "0 new documents by updated_at"
    source.insert_many(documents(200, seed=1))
    settled.cursor = None
    assert settled.request().run_key


def test_ten_thousand_documents_at_once_are_one_run(
    settled: Ticks, source: Documents, project: Project
) -> None:
    rows = documents(5000, seed=1)
    source.insert_many(rows)
    source.insert_many([{k: v for k, v in row.items() if k != "_id"} for row in rows])
    request = settled.request()
    assert request.tags["etl_ml/because"] == "100 or more new documents by updated_at"
    assert settled.run(request).success
    assert project.lake.table("loans", "raw_data").rows == 10_600
    assert settled.reason() == "0 new documents by updated_at"


def test_nothing_for_a_week_asks_for_nothing(settled: Ticks, clock: Clock) -> None:
    for _ in range(7 * 24):
        clock.ahead += 3600
        assert settled.reason() == "0 new documents by updated_at"


def test_a_watched_collection_needs_no_cursor(
    mongodb: MongoDB, project: Project, source: Documents
) -> None:
    asked = orders(mongodb, source.database.name)
    project.add(asked | automation(watch=True, min_rows=50))
    source.insert_many(documents(600))
    with ticking(project) as ticks:
        assert ticks.run(ticks.request()).success
        assert ticks.reason() == "0 changes since the last read"
        source.update_many({"age": {"$lt": 30}}, {"$set": {"income": 5.0}})
        request = ticks.request()
        assert "changes since the last read" in request.tags["etl_ml/because"]
        assert ticks.run(request).success
        assert ticks.reason() == "0 changes since the last read"
    assert project.lake.table("loans", "clean_data").rows == 600


def test_a_file_is_read_when_it_has_stayed_as_it_is_for_a_look(project: Project) -> None:
    home = project.add(attributes() | automation())
    with ticking(project) as ticks:
        assert "a run as soon as they stay as they are" in ticks.reason()
        request = ticks.request()
        assert ticks.run(request).success
        assert ticks.reason().startswith("the source has not changed")
        data = pl.concat([loans(), loans(200, seed=1)])
        data.head(700).write_csv(home / "loans.csv")
        assert "a run as soon as" in ticks.reason()
        data.head(780).write_csv(home / "loans.csv")
        assert "a run as soon as" in ticks.reason()
        data.write_csv(home / "loans.csv")
        request = ticks.request(looks=2)
        assert assets(request) is None  # how much of a whole file is new nobody knows: it trains
        assert ticks.run(request).success
        assert project.lake.table("loans", "clean_data").rows == 800
        os.utime(home / "loans.csv")
        assert "about 1 rows; a run for 100 rows, or in 600 s" in ticks.reason()


def test_a_file_that_was_touched_is_read_and_not_trained_on(project: Project, clock: Clock) -> None:
    home = project.add(attributes() | automation())
    with ticking(project) as ticks:
        assert ticks.run(ticks.request(looks=2)).success
        os.utime(home / "loans.csv")
        ticks.reason()
        clock.ahead = 601
        result = ticks.run(ticks.request())
        assert result.success
        assert made(result) == ["raw_data"]
        assert ticks.reason().startswith("the source has not changed")


@pytest.fixture
def drifted(project: Project) -> Iterator[Ticks]:
    """A pipeline whose deployed model has met, in a run that did not train, other incomes."""
    home = project.add(attributes(automation={"retrain_on_drift": True}))
    with ticking(project, "loans_retrain") as ticks:
        assert ticks.reason() == "no drift was found"
        assert project.materialize(instance=ticks.instance).success
        assert ticks.reason() == "no drift was found"
        other = loans(600, seed=1).with_columns(income=pl.col("income") * 20)
        pl.concat([loans(), other]).write_csv(home / "loans.csv")
        assert project.materialize(*DATA, instance=ticks.instance).success
        yield ticks


def test_a_drift_asks_for_one_training_a_reference(drifted: Ticks, project: Project) -> None:
    request = drifted.request()
    assert assets(request) == MODEL
    assert request.tags["etl_ml/because"] == "rows have drifted from validated_data 0000000001"
    result = drifted.run(request)
    assert result.success, failure_message(result)
    assert "trained_model" in made(result)
    told = drifted.reason()
    assert told == "a model was trained on rows that have drifted from 0000000001"
    # Also where the new model did not become champion, and drift is found anew.
    assert project.materialize(*DATA, instance=drifted.instance).success
    drift = project.lake.read("loans", "validated_data", "drift_report.json")
    if drift["drifted"] and drift["reference"] == "0000000001":
        assert drifted.reason() == told


def test_a_retraining_waits_for_the_run_that_is_at_work(drifted: Ticks, lake: Lake) -> None:
    run = create_run_for_test(
        drifted.instance, job_name="loans_job", status=dg.DagsterRunStatus.STARTED
    )
    assert drifted.reason() == f"run {run.run_id[:8]} (started) is at work"
    drifted.instance.delete_run(run.run_id)
    assert drifted.request().run_key
    assert lake.pipelines() == []
