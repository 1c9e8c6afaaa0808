"""What a receiver is told and when: at least once, and no storm."""

from __future__ import annotations

import json
import random
from dataclasses import replace

from etl_ml.monitor.outbox import FIRST_WAIT, LONGEST_WAIT, PATIENCE, Memory, plan
from etl_ml_tests.monitor.notices import AT, failed

HOUR = 3600.0


def test_the_same_is_told_once_an_hour_with_the_number_of_times_between() -> None:
    memory = Memory()
    told: list[tuple[float, int]] = []
    for minute in range(0, 181):
        now = AT + 60 * minute
        found = plan(memory, [failed(run=f"r{minute}", at=now)], {}, HOUR, now)
        if not found.is_empty:
            told.append((minute, sum(again.times for again in found.again)))
        memory = found.then
    # 60 notices of the hour before: one was told at its beginning, the others are counted.
    assert told == [(0, 0), (60, 59), (120, 59), (180, 59)]


def test_what_was_held_back_is_told_after_the_interval_although_nothing_more_happens() -> None:
    memory = plan(Memory(), [failed()], {}, HOUR, AT).then
    memory = plan(memory, [failed(at=AT + 10)], {}, HOUR, AT + 10).then
    assert plan(memory, [], {}, HOUR, AT + HOUR - 1).is_empty
    found = plan(memory, [], {}, HOUR, AT + HOUR)
    (again,) = found.again
    assert (again.times, again.since, again.last) == (1, AT, AT + 10)
    assert plan(found.then, [], {}, HOUR, AT + 5 * HOUR).is_empty


def test_a_hundred_at_once_are_one_notice_and_a_number() -> None:
    runs = [failed(run=f"r{i}", at=AT + i) for i in range(100)]
    found = plan(Memory(), runs, {"RUN_FAILURE": 100}, HOUR, AT + 100)
    assert [notice.run_id for notice in found.notices] == ["r0"]
    assert [again.times for again in found.again] == [99]
    assert found.then.after == {"RUN_FAILURE": 100}
    assert plan(found.then, [], {}, HOUR, AT + 2 * HOUR).is_empty


def test_other_things_are_told_at_once() -> None:
    memory = plan(Memory(), [failed("raw_data")], {}, HOUR, AT).then
    found = plan(memory, [failed("clean_data", at=AT + 1)], {}, HOUR, AT + 1)
    assert [notice.asset for notice in found.notices] == ["clean_data"]


def test_without_an_interval_everything_is_told() -> None:
    memory = Memory()
    for second in range(5):
        found = plan(memory, [failed(at=AT + second)], {}, 0, AT + second)
        assert len(found.notices) == 1
        memory = found.then


def test_nothing_is_lost_or_told_twice_whatever_happens_when() -> None:
    rng = random.Random(3)
    for _ in range(100):
        memory, happened, told, now = Memory(), 0, 0, AT
        for _ in range(60):
            now += rng.uniform(1, 2 * HOUR) if rng.random() < 0.2 else rng.uniform(1, 60)
            notices = [failed(rng.choice("abc"), at=now) for _ in range(rng.choice([0, 0, 1, 5]))]
            found = plan(memory, notices, {}, HOUR, now)
            happened += len(notices)
            if rng.random() < 0.3:  # the receiver takes nothing: all is to be told again
                happened -= len(notices)
                continue
            told += len(found.notices) + sum(again.times for again in found.again)
            memory = Memory.load(json.loads(json.dumps(found.then.dump())))
        told += sum(again.times for again in plan(memory, [], {}, HOUR, now + HOUR).again)
        assert told == happened


def test_attempts_wait_longer_and_longer_and_end_after_a_day() -> None:
    memory, now, waits = Memory(), AT, []
    while not memory.has_given_up(now):
        memory = memory.failed(now)
        waits.append(memory.not_before - now)
        now = memory.not_before
    assert waits[:4] == [FIRST_WAIT * 2**n for n in range(4)]
    assert max(waits) == LONGEST_WAIT
    assert PATIENCE <= now - AT <= PATIENCE + LONGEST_WAIT


def test_a_receiver_that_asks_for_time_gets_it_within_bounds() -> None:
    assert Memory().failed(AT, at_least=120).not_before == AT + 120
    assert Memory().failed(AT, at_least=10**9).not_before == AT + LONGEST_WAIT


def test_what_is_remembered_is_bounded() -> None:
    memory = Memory()
    for number in range(1000):
        notice = replace(failed(), key=f"k{number}")
        memory = plan(memory, [notice], {}, HOUR, AT + number).then
    assert len(memory.told) == 100
    assert "k999" in memory.told
