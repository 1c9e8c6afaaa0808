"""A challenger is asked what the champion is asked; its answers are measured and never given."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl_ml.deploy import open_package
from etl_ml.lake import Lake, open_lake
from etl_ml.serve.json_rows import read_json
from etl_ml.serve.metrics import Metrics
from etl_ml.serve.scorer import Scorer
from etl_ml.serve.shadow import Shadow
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import ATTRIBUTES, loans
from etl_ml_tests.serve.conftest import deployed
from etl_ml_tests.serve.serving import refused, serving

SHADOW = "etl_ml_shadow_rows_total"


def settled(metrics: Metrics, version: str, rows: int) -> dict[str, float]:
    """Rows by result, once all have been looked at."""
    results = ("compared", "refused", "failed", "incomparable", "dropped")
    end = time.monotonic() + 30
    while True:
        found = {
            result: metrics.registry.get_sample_value(
                SHADOW, {"version": version, "result": result}
            )
            or 0
            for result in results
        }
        if sum(found.values()) >= rows or time.monotonic() > end:
            return {result: count for result, count in found.items() if count}
        time.sleep(0.01)


def body(frame: pl.DataFrame) -> bytes:
    return frame.with_columns(pl.col(pl.Date).cast(pl.String)).write_json().encode()


@pytest.fixture(scope="module")
def rivals(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Four models of `loans`: two trees, one that leaves income out, one with another contract."""
    lake = open_lake(tmp_path_factory.mktemp("rivals") / "lake")
    ignore = {"champion": {"rule": "ignore"}}
    columns = ATTRIBUTES["contract"]["columns"]
    kinds: list[dict[str, Any]] = [
        {},
        {"training": {"folds": 3, "candidates": ["logistic_regression"]}},
        {"features": {"exclude": ["income"]}},
        {"contract": {"columns": columns | {"age": {"type": "integer", "min": 18, "max": 95}}}},
    ]
    for kind in kinds:
        deployed(lake, make_pipeline(evaluation=ignore, **kind))
    return lake


def scorer(lake: Lake, number: int) -> Scorer:
    return Scorer(open_package(lake, "loans", f"{number:010}"))


def test_differences_and_disagreements_are_those_of_the_models(rivals: Lake) -> None:
    champion, challenger, metrics = scorer(rivals, 1), scorer(rivals, 2), Metrics()
    rows = read_json(body(loans(300, seed=9).drop("defaulted")), champion.signature, 1_000)
    answers = champion.score(rows)
    expected = challenger.score(rows)
    Shadow(challenger, metrics).observe(rows, answers)
    version = challenger.version
    assert settled(metrics, version, 300) == {"compared": 300}
    value = metrics.registry.get_sample_value
    differences = np.abs(answers.values - expected.values).max(axis=1)
    assert differences.max() > 0.01
    total = value("etl_ml_shadow_difference_sum", {"version": version})
    assert total == pytest.approx(differences.sum())
    small = value("etl_ml_shadow_difference_bucket", {"version": version, "le": "0.1"})
    assert small == (differences <= 0.1).sum()
    others = sum(a != b for a, b in zip(answers.predictions, expected.predictions, strict=True))
    assert value("etl_ml_shadow_disagreements_total", {"version": version}) == others > 0


def test_a_challenger_of_fewer_columns_is_asked_too(rivals: Lake) -> None:
    champion, challenger, metrics = scorer(rivals, 1), scorer(rivals, 3), Metrics()
    rows = read_json(body(loans(20).drop("defaulted")), champion.signature, 100)
    Shadow(challenger, metrics).observe(rows, champion.score(rows))
    assert settled(metrics, challenger.version, 20) == {"compared": 20}


def test_rows_that_a_challengers_contract_refuses_are_counted(rivals: Lake) -> None:
    champion, challenger, metrics = scorer(rivals, 1), scorer(rivals, 4), Metrics()
    row = {"age": 99, "income": 1.0, "country": "DE", "opened": None}
    rows = read_json(json.dumps([row]).encode(), champion.signature, 100)
    Shadow(challenger, metrics).observe(rows, champion.score(rows))
    assert settled(metrics, challenger.version, 1) == {"refused": 1}


def test_a_challenger_that_fails_leaves_the_next_request_its_turn(
    rivals: Lake, monkeypatch: Any
) -> None:
    champion, challenger, metrics = scorer(rivals, 1), scorer(rivals, 2), Metrics()
    rows = read_json(body(loans(10).drop("defaulted")), champion.signature, 100)
    shadow = Shadow(challenger, metrics)
    answer = challenger.score

    def fail(rows: Any) -> Any:
        monkeypatch.setattr(challenger, "score", answer)
        raise MemoryError

    monkeypatch.setattr(challenger, "score", fail)
    for _ in range(2):
        shadow.observe(rows, champion.score(rows))
    assert settled(metrics, challenger.version, 20) == {"failed": 10, "compared": 10}


def test_a_slow_challenger_is_not_waited_for(rivals: Lake, monkeypatch: Any) -> None:
    champion, challenger, metrics = scorer(rivals, 1), scorer(rivals, 2), Metrics()
    rows = read_json(body(loans(1).drop("defaulted")), champion.signature, 100)
    answers = champion.score(rows)
    held, answer = threading.Event(), challenger.score
    monkeypatch.setattr(challenger, "score", lambda rows: held.wait(60) and answer(rows))
    shadow = Shadow(challenger, metrics)
    for _ in range(1_000):
        shadow.observe(rows, answers)
    assert settled(metrics, challenger.version, 700)["dropped"] >= 700
    held.set()
    shadow.close()


def test_the_service_answers_with_the_champion_and_measures_the_shadow(loans_lake: Path) -> None:
    rows = json.loads(body(loans(50).drop("defaulted")))
    with serving(loans_lake, "loans", "--shadow", "1") as service:
        assert service.get("/version").json["shadow"] == "1"
        reply = service.post(rows)
        assert reply.json["version"] == "0000000002"
        labels = {"version": "0000000001", "result": "compared"}
        end = time.monotonic() + 20
        while service.metric(SHADOW, **labels) < 50 and time.monotonic() < end:
            time.sleep(0.02)
        assert service.metric(SHADOW, **labels) == 50
        assert service.metric("etl_ml_shadow_difference_count", version="0000000001") == 50


@pytest.mark.parametrize(("version", "said"), [("7", "no package of version"), ("x", "no version")])
def test_a_shadow_that_is_not_there_is_told_at_the_start(
    loans_lake: Path, version: str, said: str
) -> None:
    done = refused(loans_lake, "loans", "--shadow", version)
    assert (done.returncode, said in done.stderr) == (1, True)
