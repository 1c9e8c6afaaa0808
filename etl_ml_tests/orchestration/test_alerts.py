"""Alerts of real runs, at real receivers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from etl_ml.monitor.outbox import FIRST_WAIT
from etl_ml_tests.project import Project, attributes, loans
from etl_ml_tests.servers.daemon import Daemon, until
from etl_ml_tests.servers.http import Http

EVERYTHING = [
    "run_failed",
    "check_failed",
    "drift",
    "model_rejected",
    "model_deployed",
    "source_stale",
]


class Desk:
    """A project whose alerts go to a receiver, and its sensor, tick by tick."""

    def __init__(
        self, project: Project, http: Http, instance: dg.DagsterInstance, **sections: Any
    ) -> None:
        self.project, self.http, self.instance = project, http, instance
        http.serve("/hook", (200, {}, b""))
        self.on: dict[str, Any] = {"type": "webhook", "url": f"{http.url}/hook", "on": EVERYTHING}
        self.cursors: dict[str, str] = {}
        self.add(**sections)

    def add(self, data: pl.DataFrame | None = None, **sections: Any) -> None:
        given = {"automation": {"alerts": [self.on]}} | sections
        self.project.add(attributes(**given), data)

    def run(self, *assets: str, pipeline: str = "loans") -> dg.ExecuteInProcessResult:
        return self.project.materialize(*assets, pipeline=pipeline, instance=self.instance)

    def fail(self, pipeline: str = "loans") -> None:
        """The cheapest run that fails."""
        (self.project.package / "defs" / pipeline / "loans.csv").unlink(missing_ok=True)
        assert not self.run("raw_data", pipeline=pipeline).success

    def tick(self, pipeline: str = "loans") -> list[dict[str, Any]]:
        """What the receiver got in one tick of the sensor, which is loaded anew each time."""
        before = len(self.http.requests)
        with self.project.loaded() as defs:
            sensor = defs.resolve_sensor_def(f"{pipeline}_alerts")
            context = dg.build_sensor_context(self.instance, cursor=self.cursors.get(pipeline))
            result = sensor(context)
        assert isinstance(result, dg.SkipReason)
        assert context.cursor is not None
        self.cursors[pipeline] = context.cursor
        return [request.json() for request in self.http.requests[before:]]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def desk(project: Project, http: Http, instance: dg.DagsterInstance) -> Desk:
    return Desk(project, http, instance)


def only(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The notices of the one message that there is."""
    (message,) = messages
    notices: list[dict[str, Any]] = message["notices"]
    return notices


def events(messages: list[dict[str, Any]]) -> list[str]:
    return [notice["event"] for message in messages for notice in message["notices"]]


def test_a_pipeline_without_alerts_has_no_sensor(project: Project) -> None:
    project.add()
    with project.loaded() as defs:
        assert not list(defs.sensors or ())


def test_the_sensor_runs_as_soon_as_it_is_there(desk: Desk) -> None:
    with desk.project.loaded() as defs:
        sensor = defs.resolve_sensor_def("loans_alerts")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


def test_a_failed_run_is_told_with_its_reason_and_what_to_do(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_ML_UI_URL", "https://dagster.example/")
    (desk.project.package / "defs" / "loans" / "loans.csv").unlink()
    result = desk.run("raw_data")
    (notice,) = only(desk.tick())
    assert notice["event"] == "run_failed"
    assert notice["what"] == "the run failed at raw_data"
    assert "loans.csv" in notice["details"][0]
    assert "fix it" in notice["details"][0]
    assert notice["next"] == "etl-ml show loans"
    assert notice["links"] == {
        "run": f"https://dagster.example/runs/{result.run_id}",
        "asset": "https://dagster.example/assets/loans/raw_data",
    }
    assert desk.tick() == []


def test_a_run_that_is_stopped_by_a_check_is_told_once_and_with_its_numbers(desk: Desk) -> None:
    rows = loans(400)
    wrong = rows.with_columns(age=pl.when(pl.int_range(400) < 100).then(7).otherwise("age"))
    desk.add(wrong)
    assert not desk.run().success
    # Its checks are told by the run, and not each for itself.
    (notice,) = only(desk.tick())
    assert notice["what"] == "the run failed at validated_data"
    assert notice["numbers"] == {
        "rows": "400",
        "quarantined": "100 (25.0%; 5.0% is allowed)",
        "age: min": "100 rows",
    }
    assert notice["links"]["report"].endswith("report.html")
    assert notice["next"] == "etl-ml quarantine loans"


def test_a_check_that_stops_nothing_is_told_too(desk: Desk) -> None:
    rows = loans(400)
    desk.add(rows.with_columns(age=pl.when(pl.int_range(400) < 4).then(7).otherwise("age")))
    assert desk.run("raw_data", "validated_data", "quarantined_data").success
    (notice,) = only(desk.tick())
    assert notice["event"] == "check_failed"
    assert notice["what"] == "the check values of validated_data failed; the run went on"
    assert notice["details"] == ["4 cells break a rule; their rows are in quarantined_data."]
    assert notice["numbers"]["quarantined"] == "4 (1.0%; 5.0% is allowed)"


def test_who_asks_for_checks_alone_is_told_of_the_one_that_stopped_the_run(desk: Desk) -> None:
    desk.on["on"] = ["check_failed"]
    desk.add(loans(400).with_columns(age=pl.lit(7)))
    desk.run()
    whats = [notice["what"] for notice in only(desk.tick())]
    assert "the check quarantined_share of validated_data failed" in whats


def test_a_deployed_model_is_told_with_its_score_and_a_rejected_one_with_its_reasons(
    desk: Desk,
) -> None:
    assert desk.run().success
    (notice,) = only(desk.tick())
    report = desk.project.lake.read("loans", "model_evaluation", "evaluation_report.json")
    f1 = report["metrics"]["test"]["f1"]
    assert notice["what"] == "model 0000000001 is the champion"
    assert notice["numbers"]["f1"].startswith(f"{f1['value']:.4f} ({f1['low']:.4f} to ")
    assert notice["next"] == "etl-ml rollback loans"

    desk.add(evaluation={"gates": {"f1": 0.999}})
    assert desk.run("model_evaluation", "deployed_model").success
    (notice,) = only(desk.tick())
    assert notice["event"] == "model_rejected"
    assert notice["what"] == "model 0000000001 is not deployed"
    assert notice["numbers"]["f1"] == f"{f1['value']:.4f}, gate 0.999"
    assert notice["details"][-1] == "The champion stays."


def test_a_model_that_waits_is_told_with_the_command_that_promotes_it(desk: Desk) -> None:
    desk.add(deployment={"approval": "manual"})
    assert desk.run().success
    (notice,) = only(desk.tick())
    assert notice["what"] == "model 0000000001 waits for approval"
    assert notice["next"] == "etl-ml promote loans 0000000001"


def test_a_run_that_has_a_page_of_its_own_is_told_with_it(desk: Desk) -> None:
    (desk.project.package / "defs" / "loans" / "loans.csv").unlink()
    run_id = desk.run("raw_data").run_id
    desk.project.lake.backend.put(f"loans/runs/{run_id}/report.html", b"<html>")
    (notice,) = only(desk.tick())
    assert notice["links"]["report"].endswith(f"/loans/runs/{run_id}/report.html")


def test_drift_is_told_with_the_columns_and_their_effects(desk: Desk) -> None:
    assert desk.run().success
    desk.tick()
    desk.add(loans(600, seed=1).with_columns(income=pl.col("income") * 3))
    assert desk.run("raw_data", "validated_data", "quarantined_data").success
    (notice,) = only(desk.tick())
    report = desk.project.lake.read("loans", "validated_data", "drift_report.json")
    effect = report["columns"]["income"]["effect"]
    assert notice["event"] == "drift"
    assert list(notice["numbers"]) == ["income"]
    assert notice["numbers"]["income"].startswith(f"effect {effect:.2f} (ks), adjusted p ")
    assert "600 new rows were compared with validated_data 0000000001" in notice["details"][0]
    assert desk.tick() == []


def test_what_others_raise_is_told_by_its_class_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(*_: Any, **__: Any) -> None:
        raise ValueError("row 7: alice@example.org")

    monkeypatch.setattr("etl_ml.extract.extract", leak)
    desk.run("raw_data")
    (message,) = desk.tick()
    assert "ValueError; the run's log has its text" in message["text"]
    assert "alice" not in json.dumps(message)


def test_what_was_seen_is_left_out_where_a_column_is_sensitive(desk: Desk) -> None:
    columns = attributes()["contract"]["columns"]
    columns["income"]["sensitive"] = True
    desk.on["every_seconds"] = 0
    for given, shown in ((attributes()["contract"]["columns"], True), (columns, False)):
        desk.add(loans(300).rename({"opened": "open"}), contract={"columns": given})
        assert not desk.run("raw_data", "validated_data", "quarantined_data").success
        notice = next(n for n in only(desk.tick()) if n["event"] == "run_failed")
        assert ("\n  seen " in notice["details"][0]) == shown, notice["details"]


def test_a_receiver_that_is_down_harms_no_run_and_misses_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.http.serve("/hook", (500, {}, b""))
    assert desk.run("raw_data", "validated_data", "quarantined_data").success
    desk.fail()
    assert events(desk.tick()) == ["run_failed"]  # it was asked, and did not take it
    assert desk.tick() == []  # it is left alone for a while
    desk.fail()
    desk.http.serve("/hook", (200, {}, b""))
    now = time.time() + FIRST_WAIT + 1
    monkeypatch.setattr("etl_ml.orchestration.alerts.time.time", lambda: now)
    (message,) = desk.tick()
    assert [notice["event"] for notice in message["notices"]] == ["run_failed"]
    assert [again["times"] for again in message["again"]] == [1]
    assert desk.tick() == []


def test_one_receiver_that_is_down_does_not_keep_the_others_waiting(desk: Desk) -> None:
    down = desk.on | {"url": f"{desk.http.url}/down"}
    desk.add(automation={"alerts": [down, desk.on]})
    desk.fail()
    desk.tick()
    assert [request.path for request in desk.http.requests] == ["/down", "/hook"]


def test_a_hundred_failed_runs_are_few_messages(desk: Desk) -> None:
    (desk.project.package / "defs" / "loans" / "loans.csv").unlink()
    with desk.project.loaded() as defs:
        job = defs.resolve_implicit_global_asset_job_def()
        selection = [dg.AssetKey(["loans", "raw_data"])]
        messages = []
        for number in range(100):
            job.execute_in_process(
                asset_selection=selection, raise_on_error=False, instance=desk.instance
            )
            if number % 10 == 9:
                messages += desk.tick()
    for _ in range(3):
        messages += desk.tick()
    assert len(messages) == 1
    told = json.loads(desk.cursors["loans"])["alerts"]["webhook"]["told"]
    first = messages[0]["again"][0]["times"]
    assert 1 + first + told["run_failed raw_data"]["more"] == 100


def test_the_runs_of_another_pipeline_are_told_by_its_own_sensor(desk: Desk) -> None:
    desk.project.add(attributes(name="loans_b", automation={"alerts": [desk.on]}), folder="loans_b")
    (desk.project.package / "defs" / "loans_b" / "loans.csv").unlink()
    with desk.project.loaded() as defs:
        job = defs.resolve_implicit_global_asset_job_def()
        selection = [dg.AssetKey([name, "raw_data"]) for name in ("loans", "loans_b")]
        result = job.execute_in_process(
            asset_selection=selection, raise_on_error=False, instance=desk.instance
        )
    assert not result.success
    assert desk.tick("loans") == []
    (notice,) = only(desk.tick("loans_b"))
    assert notice["what"] == "the run failed at raw_data"


def test_a_run_whose_process_ended_is_told(desk: Desk) -> None:
    with desk.project.loaded() as defs:
        job = defs.resolve_job_def("loans_job")
        run = desk.instance.create_run_for_job(job)
    desk.instance.report_run_failed(run)
    (notice,) = only(desk.tick())
    assert notice["what"] == "the run failed"
    assert notice["details"] == ["no step of it failed: its process has ended"]


def test_a_source_that_is_stale_is_told_until_it_is_not(desk: Desk) -> None:
    key = dg.AssetKey(["loans", "raw_data"])

    def becomes(state: FreshnessState, previous: FreshnessState) -> None:
        change = FreshnessStateChange(
            key=key,
            new_state=state,
            previous_state=previous,
            state_change_timestamp=1_764_000_000.0,
        )
        desk.instance._report_runless_asset_event(change)

    desk.on["every_seconds"] = 0
    desk.add()
    assert desk.tick() == []
    becomes(FreshnessState.WARN, FreshnessState.PASS)
    assert desk.tick() == []
    becomes(FreshnessState.FAIL, FreshnessState.WARN)
    (notice,) = only(desk.tick())
    assert notice["event"] == "source_stale"
    assert notice["numbers"] == {"stale since": "2025-11-24 16:00 UTC"}
    assert events(desk.tick()) == ["source_stale"]
    becomes(FreshnessState.PASS, FreshnessState.FAIL)
    assert desk.tick() == []


def test_the_cursor_holds_no_secret_and_a_broken_one_is_begun_anew(desk: Desk) -> None:
    desk.on |= {"url": f"{desk.http.url}/hook?key=k3y-k3y", "token": "t0k3n-t0k3n"}
    desk.add()
    desk.fail()
    assert events(desk.tick()) == ["run_failed"]
    assert "k3y" not in desk.cursors["loans"]
    assert "t0k3n" not in desk.cursors["loans"]
    desk.cursors["loans"] = "{broken"
    assert events(desk.tick()) == ["run_failed"]  # rather twice than never


def test_what_ended_long_before_the_alert_was_there_is_not_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.fail()
    later = time.time() + 3601
    with monkeypatch.context() as patch:
        patch.setattr("etl_ml.orchestration.alerts.time.time", lambda: later)
        assert desk.tick() == []
    desk.fail()
    assert events(desk.tick()) == ["run_failed"]


def test_a_real_daemon_tells_at_last_although_it_and_the_receiver_were_down(
    project: Project, http: Http, tmp_path: Path
) -> None:
    http.serve("/hook", (503, {}, b""))
    project.add(
        attributes(
            source={"path": "gone.csv"},
            automation={"alerts": [{"type": "slack", "url": f"{http.url}/hook"}]},
        )
    )
    (project.package / "defs" / "loans" / "gone.csv").unlink()
    daemon = Daemon(project, ETL_ML_UI_URL="https://dagster.example")
    daemon.start()
    try:
        command = project.dagster_materialize('key:"loans/raw_data"')
        run = project.run(command, DAGSTER_HOME=str(daemon.home))
        assert "SourceError" in run.stderr, run.stdout + run.stderr
        until(lambda: bool(http.requests), 180, daemon.log)
        daemon.kill("daemon", "code server")
        taken = len(http.requests)
        http.serve("/hook", (200, {}, b"ok"))
        daemon.start()
        until(lambda: len(http.requests) > taken, 180, daemon.log)
        text = http.requests[-1].json()["text"]
        assert text.startswith("*loans: the run failed at raw_data*")
        assert "<https://dagster.example/runs/" in text
        looks = len(daemon.ticks("loans_alerts"))
        # Told once: the cursor has moved on.
        until(lambda: len(daemon.ticks("loans_alerts")) > looks + 1, 180, daemon.log)
        assert len(http.requests) == taken + 1
    finally:
        daemon.stop()
