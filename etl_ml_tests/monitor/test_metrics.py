"""What a lake says to Prometheus: complete, bounded, and read no more often than it must be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import etl_ml
from etl_ml.lake import Contents, Lake, Log, Version
from etl_ml.lake.ended import Ended, write_ended
from etl_ml.monitor.exporter import Exporter, start, text
from etl_ml.monitor.live_metrics import LiveMetrics
from etl_ml.monitor.metrics import PIPELINE, LakeMetrics
from etl_ml.monitor.push import NotPushed, push
from etl_ml.spec.automation import Event
from etl_ml.spec.error import EtlMlError
from etl_ml_tests.servers.http import Http
from etl_ml_tests.servers.process import free_ports
from etl_ml_tests.servers.prometheus import read

VALIDATION = {
    "rows": 200,
    "valid_rows": 150,
    "quarantined_rows": 40,
    "superseded_rows": 10,
    "passed": True,
    "checks": [{"name": "min", "column": "age", "failed_rows": 40}],
}


def drift(columns: int) -> dict[str, Any]:
    found = {
        f"c{i}": {"effect": i / columns, "drifted": i % 2 == 0, "nulls": {"effect": 0.0}}
        for i in range(columns)
    }
    return {"drifted": True, "rows_compared": 150, "columns": found}


def validated(lake: Lake, pipeline: str = "p", columns: int = 3) -> str:
    files = {"validation_report.json": VALIDATION, "drift_report.json": drift(columns)}
    return lake.write(pipeline, "quarantined_data", Contents(files=files)).version


def samples(lake: Lake) -> dict[tuple[str, ...], float]:
    """By name and the values of the labels, in the order of their names, what is exported."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text(lake))
        for sample in family.samples
    }


def test_a_validation_is_told_whole(lake: Lake) -> None:
    validated(lake)
    found = samples(lake)
    kinds = {"read": 200, "valid": 150, "quarantined": 40, "superseded": 10}
    assert {kind: found["etl_ml_rows", kind, "p"] for kind in kinds} == kinds
    assert found["etl_ml_quarantined_share", "p"] == 0.2
    assert found["etl_ml_validation_passed", "p"] == 1
    assert found["etl_ml_rule_failed_rows", "age", "p", "min"] == 40
    assert found["etl_ml_drift_detected", "p"] == 1
    assert found["etl_ml_drift_effect", "c2", "p"] == 2 / 3
    assert found["etl_ml_drift_column", "c2", "p"] == 1
    assert found["etl_ml_drift_column", "c1", "p"] == 0


def test_an_empty_lake_and_one_of_several_pipelines_are_read(lake: Lake) -> None:
    assert samples(lake)[("etl_ml_lake_up",)] == 1
    for name in ("a", "b"):
        validated(lake, name)
    found = samples(lake)
    assert found["etl_ml_pipeline_up", "a"] == found["etl_ml_pipeline_up", "b"] == 1


def test_the_number_of_series_is_bounded(lake: Lake) -> None:
    validated(lake, columns=1000)
    found = [key for key in samples(lake) if key[0] == "etl_ml_drift_effect"]
    assert len(found) == 200
    assert ("etl_ml_drift_effect", "c999", "p") in found  # those that moved most


def test_how_runs_ended_is_told_also_where_one_never_succeeded(lake: Lake) -> None:
    validated(lake)
    write_ended(lake, "p", Ended("r1", 100.0, {"raw_data": 2.0}, ("raw_data",)))
    found = samples(lake)
    assert found["etl_ml_run_failed", "p"] == 1
    assert found["etl_ml_run_last_failure_timestamp_seconds", "p"] == 100
    assert ("etl_ml_run_last_success_timestamp_seconds", "p") not in found
    write_ended(lake, "p", Ended("r2", 200.0, {"raw_data": 3.0, "clean_data": 4.0}))
    found = samples(lake)
    assert found["etl_ml_run_failed", "p"] == 0
    assert found["etl_ml_run_seconds", "p"] == 7
    assert found["etl_ml_step_seconds", "raw_data", "p"] == 3
    assert found["etl_ml_run_last_failure_timestamp_seconds", "p"] == 100


def test_a_damaged_pipeline_does_not_hide_the_others(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    validated(lake, "sound")
    version = validated(lake, "broken")
    name = f"broken/files/quarantined_data/{version}/validation_report.json"
    lake.backend.put(name, b"{}")
    metrics = LakeMetrics(lake)
    for _ in range(5):
        metrics.families()
    assert caplog.text.count("broken cannot be measured") == 1  # and not each minute
    found = samples(lake)
    assert found["etl_ml_pipeline_up", "broken"] == 0
    assert found["etl_ml_pipeline_up", "sound"] == 1
    assert ("etl_ml_rows", "read", "sound") in found
    assert ("etl_ml_rows", "read", "broken") not in found


def test_a_version_is_read_once_and_a_new_one_at_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated(lake)
    read: list[str] = []
    reading = Version.read

    def counted(version: Version, file: str) -> Any:
        read.append(file)
        return reading(version, file)

    monkeypatch.setattr(Version, "read", counted)
    metrics = LakeMetrics(lake)
    for _ in range(3):
        metrics.families()
    assert sorted(read) == ["drift_report.json", "validation_report.json"]
    validated(lake)
    metrics.families()
    assert len(read) == 4


def test_scrapes_in_quick_succession_read_the_lake_once(lake: Lake) -> None:
    validated(lake)
    now = [0.0]
    exporter = Exporter(lake, clock=lambda: now[0])
    first = list(exporter.collect())
    assert list(exporter.collect()) == first
    now[0] = 10.0
    assert list(exporter.collect()) != first


def test_a_lake_that_cannot_be_read_is_said_to_be_and_nothing_else(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated(lake)

    def refuse() -> list[str]:
        raise EtlMlError("no such bucket")

    monkeypatch.setattr(lake, "pipelines", refuse)
    found = samples(lake)
    assert found[("etl_ml_lake_up",)] == 0
    assert not any(key[0] == "etl_ml_rows" for key in found)


def test_an_address_that_is_taken_is_told(lake: Lake) -> None:
    server = start(lake, "127.0.0.1", 0)
    with pytest.raises(EtlMlError, match="cannot listen on"):
        start(lake, "127.0.0.1", server.server_port)
    assert "etl_ml_lake_up 1.0" in read(f"http://127.0.0.1:{server.server_port}/metrics")
    server.shutdown()
    server.server_close()


def test_what_is_pushed_is_what_is_exported(lake: Lake, http: Http) -> None:
    validated(lake, "p")
    validated(lake, "other")
    http.serve("/metrics/job/etl_ml/pipeline/p", (200, {}, b""))
    gateway = http.url.replace("http://", "http://pusher:p%40ss@")
    push(gateway, lake, "p")
    (request,) = http.requests
    assert request.method == "PUT"  # in place of all that was pushed before
    assert request.headers["authorization"] == "Basic cHVzaGVyOnBAc3M="
    pushed = {
        (s.name, *(v for _, v in sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(request.body.decode())
        for s in family.samples
    }
    own = {k: v for k, v in samples(lake).items() if "p" in k}
    assert pushed == own


@pytest.mark.parametrize("status", [401, 500])
def test_a_gateway_that_refuses_is_told_without_its_password(
    lake: Lake, http: Http, status: int
) -> None:
    http.routes["/metrics/job/etl_ml/pipeline/p"] = lambda _: (status, {}, b"")
    with pytest.raises(NotPushed, match=f"answers {status}") as caught:
        push(http.url.replace("http://", "http://pusher:s3cr3t@"), lake, "p")
    assert "s3cr3t" not in str(caught.value)


def test_a_gateway_that_is_not_there_is_told_without_its_password(lake: Lake) -> None:
    with pytest.raises(NotPushed, match="cannot be reached") as caught:
        push(f"http://pusher:s3cr3t@127.0.0.1:{free_ports(1)[0]}", lake, "p")
    assert "s3cr3t" not in str(caught.value)


def test_how_a_run_ended_may_be_unreadable(lake: Lake) -> None:
    validated(lake)
    lake.backend.put("p/runs/succeeded.json", b"{")
    lake.backend.put("p/runs/failed.json", json.dumps({"run_id": "r"}).encode())
    assert samples(lake)["etl_ml_pipeline_up", "p"] == 1


def test_the_champion_and_its_age_are_told(lake: Lake) -> None:
    lake.write("p", "trained_model", Contents(files={"leaderboard.json": []}))
    promoted: dict[str, Any] = {"run_id": "r", "reason": "", "metric": "f1", "value": 0.9}
    Log(lake, "p").promote("0000000001", replaces=None, compared=False, **promoted)
    found = samples(lake)
    assert found["etl_ml_champion_info", "p", "0000000001"] == 1
    assert found["etl_ml_champion_metric", "f1", "p", "0000000001"] == 0.9
    since = found["etl_ml_champion_since_timestamp_seconds", "p"]
    assert found["etl_ml_champion_trained_timestamp_seconds", "p"] <= since + 1


def test_the_documentation_names_every_metric_and_no_other() -> None:
    page = (Path(etl_ml.__file__).parents[1] / "docs" / "monitoring.md").read_text()
    registry = CollectorRegistry()
    LiveMetrics(registry)
    live = {
        family.name.removeprefix("etl_ml_live_") + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
    }
    names = {*PIPELINE, *live - {"probability"}, "probability_bucket"}
    names |= {"lake_up", "lake_read_seconds"}
    rows = [row for row in page.splitlines() if row.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    told |= {"lake_up", "lake_read_seconds"} & set(re.findall(r"`([a-z_]+)`", page))
    events = set(get_args(Event))
    assert told - (events - names) == names
