"""What a sensor keeps in its cursor: it spares work and gives patience, and decides nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class Memory:
    """What the looks before this one have seen.

    Attributes
    ----------
    raw, content : the newest `raw_data` version, and what tells its rows from another's
    waits_since, looked : when rows were first seen to wait, and when the last look was; seconds
        since 1970 by the clock of this machine
    mark : of a source that may be half written
    watched : how far a change stream was listened to
    empty : how many versions in a row brought no new row
    refusals, not_before : how often in a row the source gave no answer, and when to ask again
    silence : by sign of life, how long it has not changed
    """

    raw: str = ""
    content: str = ""
    waits_since: float | None = None
    looked: float = 0.0
    mark: str | None = None
    watched: Mapping[str, Any] | None = None
    empty: int = 0
    refusals: int = 0
    not_before: float = 0.0
    silence: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def load(cursor: str | None, now: float) -> Memory:
        """From a sensor's cursor; one that is lost or of another etl_ml is an empty one.

        Where the clock went back, what was measured by it moves along.
        """
        try:
            told: dict[str, Any] = json.loads(cursor or "{}")
            known = {f.name for f in fields(Memory)}
            memory = Memory(**{name: value for name, value in told.items() if name in known})
        except (ValueError, TypeError, AttributeError):
            return Memory(looked=now)
        back = max(memory.looked - now, 0.0)
        since = memory.waits_since
        return replace(
            memory,
            waits_since=since - back if since is not None else None,
            not_before=memory.not_before - back,
            looked=now,
        )

    def dump(self) -> str:
        return json.dumps(asdict(self))

    def of(self, raw: str, content: str) -> Memory:
        """The memory about a version of `raw_data`; of another one, what waited waits anew."""
        if raw == self.raw:
            return self
        empty = self.empty + 1 if content == self.content and self.raw else 0
        return replace(
            self, raw=raw, content=content, waits_since=None, mark=None, watched=None, empty=empty
        )
