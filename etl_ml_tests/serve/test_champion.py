"""A new champion takes over between two requests; a bad one is refused, and the old one stays."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl_ml.lake import open_lake
from etl_ml.serve.champion import Champion
from etl_ml.serve.metrics import Metrics
from etl_ml.serve.settings import Settings
from etl_ml.serve.source import Published, Registry, find_source
from etl_ml_tests.serve.serving import Serving, serving
from etl_ml_tests.serve.test_scorer import flipped, package_folder, pickled, repacked

GOOD = {"age": 30, "income": 1e4, "country": "DE", "opened": "2001-05-06"}
FIRST, SECOND = "0000000001", "0000000002"


def log_entry(lake: Path, number: int, version: str) -> Path:
    """Make a version champion, as `etl-ml promote` and `rollback` do."""
    log = lake / "loans" / "registry" / "log"
    entry = json.loads((log / f"{FIRST}.json").read_text())
    path = log / f"{number:010}.json"
    path.write_text(json.dumps(entry | {"entry": f"{number:010}", "version": version}))
    return path


def rewound(lake: Path) -> Path:
    """The lake before the second model became champion; the entry that makes it champion."""
    entry = lake / "loans" / "registry" / "log" / f"{SECOND}.json"
    moved = lake / "entry.json"
    shutil.move(entry, moved)
    return moved


def promoted(lake: Path, entry: Path) -> None:
    shutil.move(entry, lake / "loans" / "registry" / "log" / f"{SECOND}.json")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def counted(metrics: Metrics, result: str) -> float:
    return metrics.registry.get_sample_value("etl_ml_serve_packages_total", {"result": result}) or 0


def champion_of(lake: Path, metrics: Metrics) -> Champion:
    return Champion(Registry(open_lake(lake), "loans"), Settings(poll_seconds=1e-9), metrics)


def test_a_new_champion_answers_after_the_next_look(own_lake: Path, metrics: Metrics) -> None:
    entry = rewound(own_lake)
    champion = champion_of(own_lake, metrics)
    champion.refresh()
    before = champion.scorer
    assert before.version == FIRST
    promoted(own_lake, entry)
    champion.refresh()
    assert (champion.scorer.version, before.version) == (SECOND, FIRST)
    log_entry(own_lake, 3, FIRST)  # and back again
    champion.refresh()
    assert champion.scorer.version == FIRST
    assert counted(metrics, "taken") == 2
    value = metrics.registry.get_sample_value
    labels = {"pipeline": "loans", "runtime": "onnx"}
    assert value("etl_ml_serve_model_info", labels | {"version": FIRST}) == 1
    assert value("etl_ml_serve_model_info", labels | {"version": SECOND}) == 0


BAD: dict[str, Callable[[Path], Any]] = {
    "a flipped byte": lambda folder: flipped(folder, "model.onnx"),
    "a pickle": pickled,
    "a swapped model": lambda folder: repacked(folder, "model.onnx", b"other"),
    "a newer format": lambda folder: (folder / "manifest.json").write_text('{"format": 99}'),
    "no package": shutil.rmtree,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_package_is_refused_and_counted_and_the_old_champion_stays(
    own_lake: Path, metrics: Metrics, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = rewound(own_lake)
    champion = champion_of(own_lake, metrics)
    good = own_lake / "good"
    shutil.copytree(package_folder(own_lake), good)
    BAD[kind](package_folder(own_lake))
    promoted(own_lake, entry)
    champion.refresh()
    assert champion.scorer.version == FIRST
    assert counted(metrics, "refused") == 1
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert told.startswith(f"{FIRST} goes on answering: ")
    shutil.rmtree(package_folder(own_lake), ignore_errors=True)
    shutil.copytree(good, package_folder(own_lake))
    champion.refresh()
    assert champion.scorer.version == SECOND  # mended, it is taken


def test_a_store_that_is_away_changes_nothing(own_lake: Path, metrics: Metrics) -> None:
    champion = champion_of(own_lake, metrics)
    shutil.move(own_lake, own_lake.with_name("away"))
    champion.refresh()
    assert champion.scorer.version == SECOND
    assert counted(metrics, "refused") == 1


def test_a_package_that_stays_bad_is_tried_ever_less_often_and_told_once(
    own_lake: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    now = [1_000.0]
    monkeypatch.setattr("etl_ml.serve.champion.time.monotonic", lambda: now[0])
    entry = rewound(own_lake)
    champion = Champion(Registry(open_lake(own_lake), "loans"), Settings(poll_seconds=10), metrics)
    flipped(package_folder(own_lake), "model.onnx")
    promoted(own_lake, entry)
    tried = []
    for _ in range(120):
        champion.refresh()
        tried.append(counted(metrics, "refused"))
        now[0] += 10
    assert tried[-1] == 8  # at 0, 1, 3, 7, 15, 31, 61 and 91 times ten seconds
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 1


def test_no_request_is_dropped_while_champions_change(own_lake: Path) -> None:
    seen: list[tuple[int, str, str]] = []
    over = threading.Event()

    def ask(service: Serving) -> None:
        while not over.is_set():
            reply = service.post([GOOD])
            seen.append((reply.status, reply.headers["model-version"], reply.json["version"]))

    with serving(own_lake, "loans", "--poll-seconds", "0.1") as service:
        clients = [threading.Thread(target=ask, args=(service,)) for _ in range(4)]
        for client in clients:
            client.start()
        for number, version in enumerate([FIRST, SECOND, FIRST, SECOND], start=3):
            log_entry(own_lake, number, version)
            while seen[-1:] == [] or seen[-1][1] != version:
                time.sleep(0.01)
        flipped(package_folder(own_lake).with_name(FIRST), "model.onnx")
        log_entry(own_lake, 7, FIRST)
        service.wait_for(f"{SECOND} goes on answering")
        over.set()
        for client in clients:
            client.join()
        assert service.get("/health/ready").status == 200
        assert service.metric("etl_ml_serve_packages_total", result="taken") == 4
        assert service.metric("etl_ml_serve_packages_total", result="refused") >= 1
    assert {status for status, _, _ in seen} == {200}
    assert all(header == told for _, header, told in seen)
    assert {version for _, version, _ in seen} == {FIRST, SECOND}


def test_a_target_is_followed_by_its_url(own_lake: Path, tmp_path: Path, metrics: Metrics) -> None:
    target = tmp_path / "target"
    shutil.copytree(own_lake / "loans" / "registry" / "models", target / "models")
    (target / "champions").mkdir()

    def point(entry: int, version: str) -> None:
        said = json.dumps({"entry": entry, "version": version, "at": "2026-05-04T03:02:01Z"})
        (target / "champions" / f"{entry:010}.json").write_text(said)

    point(1, FIRST)
    source = find_source(str(target))
    assert isinstance(source, Published)
    champion = Champion(source, Settings(poll_seconds=1e-9), metrics)
    assert champion.scorer.version == FIRST
    point(2, SECOND)
    champion.refresh()
    assert champion.scorer.version == SECOND
    assert source.open(FIRST).version == FIRST
