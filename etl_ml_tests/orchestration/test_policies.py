"""How fresh assets must be, what follows what, how many read at once, and which errors heal."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from etl_ml.orchestration import retries
from etl_ml.spec import InvalidPipeline
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.extract.collections import collection
from etl_ml_tests.orchestration.test_sources import documents, orders
from etl_ml_tests.project import Project, attributes, failure_message
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.process import free_ports

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def windows(project: Project, automation: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Of each asset with a freshness policy: warn, fail."""
    project.add(attributes(automation=automation))
    with project.loaded() as defs:
        found = {s.key.path[-1]: s.freshness_policy for s in defs.resolve_all_asset_specs()}
    policies = {name: policy for name, policy in found.items() if policy is not None}
    assert all(
        isinstance(p, dg._core.definitions.freshness.TimeWindowFreshnessPolicy)  # type: ignore[attr-defined]
        for p in policies.values()
    )
    return {
        name: (
            policy.warn_window.to_timedelta() if policy.warn_window else None,
            policy.fail_window.to_timedelta(),
        )
        for name, policy in policies.items()
    }


@pytest.mark.parametrize(
    ("automation", "raw_data", "deployed_model"),
    [
        # From the schedule's longest pause: over a weekend, of five minutes, of a day.
        ({"schedule": "0 3 * * 1-5"}, (None, 4.5 * DAY), (15 * DAY, 30 * DAY)),
        ({"schedule": "*/5 * * * *"}, (None, timedelta(minutes=65)), (15 * DAY, 30 * DAY)),
        ({"schedule": "@daily", "new_data": {}}, (None, 1.5 * DAY), (15 * DAY, 30 * DAY)),
        ({"schedule": "0 0 1 * *"}, (None, 46.5 * DAY), (46.5 * DAY, 93 * DAY)),
        ({"new_data": {}}, (DAY, 7 * DAY), (15 * DAY, 30 * DAY)),
        ({"new_data": {"max_wait_seconds": 86_400}}, (2 * DAY, 14 * DAY), (15 * DAY, 30 * DAY)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_freshness_follows_from_what_is_promised(
    project: Project, automation: dict[str, Any], raw_data: Any, deployed_model: Any
) -> None:
    assert windows(project, automation) == {
        "raw_data": raw_data,
        "deployed_model": deployed_model,
    }


def test_freshness_is_as_it_is_asked_for(project: Project) -> None:
    assert windows(project, {}) == {}
    asked = {"freshness": {"raw_data": {"warn": "6h", "fail": "1d"}}}
    assert windows(project, asked) == {"raw_data": (6 * HOUR, DAY)}
    with pytest.raises(InvalidPipeline, match="should be shorter than fail"):
        make_pipeline(automation={"freshness": {"raw_data": {"warn": "2d", "fail": "1d"}}})
    with pytest.raises(InvalidPipeline, match="write a number and m, h, d or w"):
        make_pipeline(automation={"freshness": {"deployed_model": {"fail": "soon"}}})


def test_all_but_raw_data_follow_what_is_above_them(project: Project) -> None:
    project.add(attributes(predictions={}))
    with project.loaded() as defs:
        conditions = {
            spec.key.path[-1]: spec.automation_condition for spec in defs.resolve_all_asset_specs()
        }
    assert conditions.pop("raw_data") is None
    assert set(conditions.values()) == {dg.AutomationCondition.eager()}
    assert "predictions" in conditions


def test_steps_at_one_server_share_a_pool(project: Project) -> None:
    where = {"uri": "mongodb://u:hidden-secret@db.example:27017,b:1/?tls=true", "database": "d"}
    project.add(
        attributes(
            name="orders",
            source={"type": "mongodb", "collection": "c", **where},
            load=[
                {"type": "sql", "url": "mysql://u:hidden-secret@sql.example/shop", "table": "t"},
                {"type": "file", "path": "out.csv"},
            ],
        ),
        folder="orders",
    )
    project.add(attributes(predictions={}))
    with project.loaded() as defs:
        layer = defs.resolve_implicit_global_asset_job_def().asset_layer
        pools = {key.to_user_string(): layer.get(key).pools for key in layer.executable_asset_keys}
    found = {key: set(pools[key]) for key in sorted(pools) if pools[key]}
    assert found == {
        "loans/deployed_model": {"deploy/loans"},
        "loans/raw_data": {"source/file/local"},
        "orders/deployed_model": {"deploy/orders"},
        "orders/loaded_data": {"destination/sql/sql.example"},
        "orders/raw_data": {"source/mongodb/db.example:27017,b:1"},
    }


def attempts(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.is_step_up_for_retry for event in result.all_events)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts that a test can wait for."""
    monkeypatch.setattr(retries, "WAITS", (0.5, 0.5, 0.5))


def test_a_source_that_comes_back_is_read_by_a_later_attempt(
    mongodb: MongoDB, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "WAITS", (5.0, 20.0, 20.0))
    monkeypatch.setenv("LOANS_URI", f"{mongodb.uri}/?serverSelectionTimeoutMS=1000")
    with collection(mongodb) as source:
        source.insert_many(documents(300))
        project.add(orders(mongodb, source.database.name))
        mongodb.stop()
        import threading

        back = threading.Timer(4, mongodb.start)
        back.start()
        result = project.materialize("raw_data")
        back.join()
        assert result.success, failure_message(result)
        assert attempts(result) >= 1
    assert project.lake.table("loans", "raw_data").rows == 300


@pytest.mark.usefixtures("quick")
def test_what_does_not_heal_is_not_tried_again(
    mongodb: MongoDB, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"mongodb://loans:wrong@127.0.0.1:{mongodb.port}"
    monkeypatch.setenv("LOANS_URI", uri)
    project.add(orders(mongodb, "loans"))
    refused = project.materialize("raw_data")
    assert "the server refuses the user" in failure_message(refused)
    assert attempts(refused) == 0
    project.add(attributes(validation={"min_rows": 10_000}))
    broken = project.materialize()
    assert "validation.min_rows is 10000" in failure_message(broken)
    assert attempts(broken) == 0


@pytest.mark.usefixtures("quick")
def test_a_source_that_stays_away_is_told_after_the_last_attempt(
    project: Project, mongodb: MongoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_ports(1)[0]
    monkeypatch.setenv("LOANS_URI", f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=500")
    project.add(orders(mongodb, "loans"))
    result = project.materialize("raw_data")
    assert not result.success
    assert attempts(result) == 3
    assert "no server answers" in failure_message(result)


@pytest.mark.usefixtures("quick")
def test_a_destination_that_is_locked_is_tried_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl_ml.lake import backoff

    # What waits within an attempt gives up at once.
    monkeypatch.setattr(backoff.Backoff.__init__, "__defaults__", (0.01,))
    place = project.root / "out.db"
    project.add(
        attributes(load=[{"type": "sql", "url": f"sqlite:///{place}?timeout=0.2", "table": "t"}])
    )
    with sqlite3.connect(place) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        result = project.materialize()
        holder.rollback()
    assert not result.success
    assert "1 of 1 destinations are behind" in failure_message(result)
    assert attempts(result) == 3
    assert project.materialize("loaded_data").success
