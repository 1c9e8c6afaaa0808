"""Who looks on at a service is shown what it was asked and what it answered."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etl_ml_tests.serve.serving import Serving, environment
from etl_ml_tests.servers.process import free_ports

GOOD = {"age": 30, "income": 1e4, "country": "DE", "opened": "2001-05-06"}
_WATCH = """
import json, os
from prometheus_client import Counter

class Watch:
    def __init__(self, open, registry):
        self.open = open
        self.rows = Counter("watched_rows", "Rows.", ["version"], registry=registry)
        self.file = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def observe(self, rows, answers):
        self.rows.labels(answers.version).inc(rows.count)
        package = self.open(answers.version)
        told = [rows.columns["age"], answers.predictions, package.version, answers.values.shape]
        os.write(self.file, json.dumps(told).encode() + b"\\n")

    def close(self):
        os.write(self.file, b'"closed"\\n')
"""
_SERVE = """
import sys, serve_watch
from etl_ml.serve.server import serve
from etl_ml.serve.settings import Settings
if __name__ == "__main__":
    settings = Settings(port=int(sys.argv[1]), workers=int(sys.argv[2]))
    serve("loans", settings, [serve_watch.Watch])
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_an_observer_sees_what_was_answered_and_nothing_else(
    loans_lake: Path, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "serve_watch.py").write_text(_WATCH)
    (tmp_path / "main.py").write_text(_SERVE)
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py"), str(port), str(workers)],
        env=environment(loans_lake, {"WATCHED": str(tmp_path / "watched")}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        service = Serving(process)
        answers = service.post([GOOD, GOOD | {"age": 70}]).json
        assert service.post([GOOD | {"age": 7}]).status == 422
        assert service.post(b"age\n30\n", kind="text/csv").status == 422
        assert service.metric("watched_rows_total", version="0000000002") == 2
        assert service.stop() == 0
    finally:
        process.terminate()
        process.wait(30)
    told = [json.loads(line) for line in (tmp_path / "watched").read_text().splitlines()]
    assert told == [[[30, 70], answers["predictions"], "0000000002", [2, 2]], *["closed"] * workers]


def test_the_command_tells_how_far_live_rows_are_from_those_of_training(
    service: Serving, loans_lake: Path
) -> None:
    before = service.metric("etl_ml_live_rows_total", version="0000000002")
    old = [GOOD | {"age": 80 + n % 10} for n in range(1000)]
    assert service.post({"rows": old}).status == 200
    end = time.monotonic() + 60
    while (drift := service.metric("etl_ml_live_drift_effect", column="age")) < 0.5:
        assert time.monotonic() < end, drift
        time.sleep(0.2)
    after = service.metric("etl_ml_live_rows_total", version="0000000002")
    assert after - before == len(old)
