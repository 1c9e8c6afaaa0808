"""Backfills: days of a source through the whole pipeline, one or many in a run."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from etl_ml_tests.orchestration.test_component import ASSETS
from etl_ml_tests.orchestration.ticks import made
from etl_ml_tests.project import ATTRIBUTES, Project, attributes, failure_message, loans

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@pytest.fixture
def project_by_day(project: Project) -> Project:
    """Four days of 300 loans each, in SQLite."""
    rows = loans(1200).to_dicts()
    with sqlite3.connect(project.root / "loans.db") as database:
        database.execute(
            "CREATE TABLE loans (id INTEGER PRIMARY KEY, age INT, income REAL, country TEXT, "
            "opened TEXT, defaulted INT)"
        )
        for number, row in enumerate(rows):
            day = f"2026-03-{1 + number // 300:02d} 10:00:00"
            values = (number, row["age"], row["income"], row["country"], day, row["defaulted"])
            database.execute("INSERT INTO loans VALUES (?, ?, ?, ?, ?, ?)", values)
    columns = {"id": {"type": "integer"}} | ATTRIBUTES["contract"]["columns"]
    project.add(
        attributes(
            source={"type": "sql", "url": f"sqlite:///{project.root}/loans.db", "table": "loans"},
            contract={
                "columns": columns | {"opened": {"type": "datetime"}},
                "primary_key": ["id"],
            },
            partitions={"column": "opened", "start": "2026-03-01"},
            automation={"schedule": "0 3 * * *"},
            load=[{"type": "file", "path": "out/clean.parquet"}],
        )
    )
    return project


def rows(project: Project, asset: str = "clean_data") -> int:
    return project.lake.table("loans", asset).rows


def test_only_raw_data_has_partitions_and_the_job_takes_a_day(project_by_day: Project) -> None:
    with project_by_day.loaded() as defs:
        job = defs.resolve_job_def("loans_job")
        days = {
            spec.key.path[-1]: spec.partitions_def
            for spec in defs.resolve_all_asset_specs()
            if spec.partitions_def is not None
        }
        assert set(days) == {"raw_data"}
        assert job.partitions_def == days["raw_data"]
        first = job.execute_in_process(partition_key="2026-03-02", raise_on_error=False)
        assert first.success, failure_message(first)
        assert set(made(first)) == {*ASSETS, "loaded_data"}
        assert rows(project_by_day) == 300
        second = job.execute_in_process(partition_key="2026-03-01", raise_on_error=False)
        assert second.success, failure_message(second)
        assert rows(project_by_day) == 600


def test_a_backfill_of_several_days_is_one_run(project_by_day: Project) -> None:
    with project_by_day.loaded() as defs, dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("loans_job")
        tags = dict(zip(RANGE, ("2026-03-01", "2026-03-04"), strict=True))
        run = job.execute_in_process(tags=tags, instance=instance, raise_on_error=False)
        assert run.success, failure_message(run)
        assert made(run).count("raw_data") == 4  # one event a day, as Dagster counts them
        assert made(run).count("trained_model") == 1
        key = dg.AssetKey(["loans", "raw_data"])
        assert instance.get_materialized_partitions(key) == {f"2026-03-0{d}" for d in range(1, 5)}
    assert project_by_day.lake.versions("loans", "raw_data") == ["0000000001"]
    assert rows(project_by_day) == 1200
    with sqlite3.connect(project_by_day.root / "loans.db") as database:
        database.execute("DELETE FROM loans WHERE id % 3 = 0")
    command = project_by_day.script(
        *("dagster", "asset", "materialize", "-m", f"{project_by_day.module}.definitions"),
        # Dagster's command wants a policy of external assets, too, which have none.
        *("--select", 'group:loans and not key:"loans/destination/*"'),
        *("--partition-range", "2026-03-02...2026-03-03"),
    )
    run = project_by_day.run(command)
    assert run.returncode == 0, run.stderr[-3000:]
    assert rows(project_by_day) == 300 + 200 + 200 + 300
    assert rows(project_by_day, "raw_data") == 1000


def test_a_run_without_a_day_says_how_to_name_one(project_by_day: Project) -> None:
    result = project_by_day.materialize("raw_data")
    assert not result.success
    told = failure_message(result)
    assert "loans/raw_data is read by the day, and this run names none" in told
    assert "--partition 2026-01-31" in told


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (datetime(2026, 3, 5, 3, tzinfo=UTC), "2026-03-04"),
        (datetime(2026, 3, 2, 0, 0, tzinfo=UTC), "2026-03-01"),
        (datetime(2026, 3, 1, 23, 59, tzinfo=UTC), None),
    ],
)
def test_the_schedule_asks_for_the_last_whole_day(
    project_by_day: Project, now: datetime, day: str | None
) -> None:
    with project_by_day.loaded() as defs:
        schedule: Any = defs.resolve_schedule_def("loans_schedule")
        with dg.build_schedule_context(scheduled_execution_time=now) as context:
            asked = schedule(context)
    if day is None:
        assert isinstance(asked, dg.SkipReason)
        assert "the first day, 2026-03-01, is not over yet" in str(asked.skip_message)
    else:
        assert asked.partition_key == day
