"""What one receiver was told, and what it is still to be told: at least once, and no storm.

The memory is what the sensor's cursor holds. It moves on only once a message was taken: a receiver
that is down, or a process that ends, leaves it where it was, and the same is read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from etl_ml.monitor.message import Again
from etl_ml.monitor.notice import Notice

FIRST_WAIT, LONGEST_WAIT = 30.0, 1800.0
PATIENCE = 24 * 3600.0
"""How long a receiver that takes nothing is tried, in seconds; what it missed is then logged."""
_REMEMBERED = 100
_LONGEST = 200


@dataclass(frozen=True)
class Told:
    """A thing that was told `at`, and `more` times not since, `last` among them."""

    at: float
    what: str
    event: str
    more: int = 0
    last: float = 0.0


@dataclass(frozen=True)
class Memory:
    """Of one receiver.

    Attributes
    ----------
    after : how far the finished runs were read, by their status
    told : by key
    attempts, since, not_before : of a message that is not taken: how often it was tried, since
        when, and when it is tried again
    """

    after: Mapping[str, int] = field(default_factory=dict)
    told: Mapping[str, Told] = field(default_factory=dict)
    attempts: int = 0
    since: float = 0.0
    not_before: float = 0.0

    @staticmethod
    def load(document: Mapping[str, Any]) -> Memory:
        """From what `dump` made.

        Raises
        ------
        TypeError, KeyError
            It was not made by this version.
        """
        told = {key: Told(**fields) for key, fields in document["told"].items()}
        return Memory(**{**document, "told": told})

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    def failed(self, now: float, at_least: float = 0.0) -> Memory:
        """A message was not taken: another attempt, later and later."""
        wait = max(min(LONGEST_WAIT, FIRST_WAIT * 2.0**self.attempts), min(at_least, LONGEST_WAIT))
        return replace(
            self,
            attempts=self.attempts + 1,
            since=self.since or now,
            not_before=now + wait,
        )

    def has_given_up(self, now: float) -> bool:
        return self.attempts > 0 and now - self.since >= PATIENCE


@dataclass(frozen=True)
class Plan:
    """What is to be sent now, and the memory once it was taken."""

    notices: tuple[Notice, ...]
    again: tuple[Again, ...]
    then: Memory

    @property
    def is_empty(self) -> bool:
        return not (self.notices or self.again)


def plan(
    memory: Memory,
    notices: Sequence[Notice],
    after: Mapping[str, int],
    every_seconds: float,
    now: float,
) -> Plan:
    """Sort what happened into what is told now and what can wait.

    What has a key that was told less than `every_seconds` ago is counted, and its number told with
    the next message after that time.

    Parameters
    ----------
    notices : in the order in which they happened
    after : how far the finished runs have been read with these
    """
    told = dict(memory.told)
    fresh: dict[str, Notice] = {}
    again: list[Again] = []

    def is_due(key: str) -> bool:
        return key not in told or now - told[key].at >= every_seconds

    due = {notice.key for notice in notices if is_due(notice.key)}
    for notice in notices:
        if notice.key in due and notice.key not in fresh:
            fresh[notice.key] = notice
            if (known := told.get(notice.key)) and known.more:
                again.append(_again(known))
            told[notice.key] = Told(now, notice.what[:_LONGEST], notice.event)
        else:
            known = told[notice.key]
            last = max(known.last, notice.at)
            told[notice.key] = replace(known, more=known.more + 1, last=last)
    for key, known in told.items():
        if known.more and key not in fresh and is_due(key):
            again.append(_again(known))
            told[key] = replace(known, at=now, more=0)
    for key in [key for key in fresh if told[key].more]:
        # Several times in what is told now: the first in full, the others by their number.
        again.append(_again(replace(told[key], at=fresh[key].at)))
        told[key] = replace(told[key], more=0)
    then = Memory(after=dict(after), told=_bounded(told, every_seconds, now))
    return Plan(tuple(fresh.values()), tuple(again), then)


def _again(known: Told) -> Again:
    return Again(known.what, known.event, known.more, known.at, known.last)  # type: ignore[arg-type]


def _bounded(told: Mapping[str, Told], every_seconds: float, now: float) -> dict[str, Told]:
    """Without what would be told anew anyway; of too many, the newest."""
    kept = {k: t for k, t in told.items() if t.more or now - t.at < every_seconds}
    newest = sorted(kept.items(), key=lambda item: item[1].at)[-_REMEMBERED:]
    return dict(newest)
