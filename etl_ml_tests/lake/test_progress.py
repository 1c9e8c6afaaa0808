from __future__ import annotations

import time

import pytest

from etl_ml.lake.progress import Progress, duration, size_of


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    return _Clock(monkeypatch)


def test_a_line_every_five_seconds_and_one_at_the_end(clock: _Clock) -> None:
    lines: list[str] = []
    progress = Progress("Loading d", 4_000, lines.append)
    for _ in range(4):
        clock.now += 3
        progress.add(1_000, 2_500_000)
    progress.done()
    assert lines == [
        "Loading d: 2,000 of 4,000 rows, 333 rows/s, 5.0 MB, 6.0 s left",
        "Loading d: 4,000 of 4,000 rows, 333 rows/s, 10.0 MB, 0.0 s left",
        "Loading d: 4,000 of 4,000 rows, 333 rows/s, 10.0 MB, done in 12.0 s",
    ]


def test_an_unknown_total_promises_no_end(clock: _Clock) -> None:
    lines: list[str] = []
    progress = Progress("Reading s", None, lines.append)
    clock.now += 6
    progress.add(60)
    assert lines == ["Reading s: 60 rows, 10 rows/s"]


def test_nothing_at_all_is_told_too(clock: _Clock) -> None:
    lines: list[str] = []
    Progress("Reading s", 0, lines.append).done()
    assert lines == ["Reading s: 0 of 0 rows, 0 rows/s, done in 0.0 s"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.24, "4.2 s"), (59.94, "59.9 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (12_345, "12.3 kB"), (5e15, "5000.0 TB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size_of(count) == text
