"""One message a person can act on, of everything that there is to tell at once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from etl_ml.monitor.notice import Notice, clock
from etl_ml.spec.automation import Event
from etl_ml.spec.error import listed

_SHOWN = 8
_KINDS: dict[Event, str] = {
    "run_failed": "failed runs",
    "check_failed": "failed checks",
    "drift": "drift",
    "model_rejected": "rejected models",
    "model_deployed": "deployed models",
    "source_stale": "stale source",
}


@dataclass(frozen=True)
class Again:
    """The same as a notice that was told before, which is not told each time.

    Attributes
    ----------
    times : how often it happened since it was told
    since, last : seconds since 1970: when it was told, and when it happened last
    """

    what: str
    event: Event
    times: int
    since: float
    last: float

    def __str__(self) -> str:
        times = "once more" if self.times == 1 else f"{self.times:,} times more"
        return f"{self.what}: {times} since {clock(self.since)}, last at {clock(self.last)}"


@dataclass(frozen=True)
class Message:
    """What is sent.

    Attributes
    ----------
    notices : what is new, in the order in which it happened
    again : what is not new and goes on
    ui : the URL of Dagster's UI, if it is known
    secrets : texts that stand in no message
    """

    pipeline: str
    notices: tuple[Notice, ...]
    again: tuple[Again, ...] = ()
    ui: str | None = None
    secrets: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The same for the same content: a message that comes twice can be known again."""
        told = [(n.run_id, n.key, n.at) for n in self.notices]
        again = [(a.what, a.times, a.last) for a in self.again]
        data = json.dumps([self.pipeline, told, again]).encode()
        return hashlib.blake2b(data, digest_size=12).hexdigest()

    @property
    def subject(self) -> str:
        """One line."""
        whats = list(dict.fromkeys([n.what for n in self.notices] or [a.what for a in self.again]))
        more = f" and {len(whats) - 1} more" if len(whats) > 1 else ""
        return self._clean(f"{self.pipeline}: {whats[0]}{more}".replace("\n", " "))[:180]

    @property
    def text(self) -> str:
        """Plain text, what is most urgent to know first."""
        parts = [self._told(notice) for notice in self.notices[:_SHOWN]]
        if rest := self.notices[_SHOWN:]:
            counts = Counter(_KINDS[notice.event] for notice in rest)
            kinds = listed(f"{count} {kind}" for kind, count in counts.items())
            parts.append(f"And {len(rest)} more: {kinds}.")
        if self.again:
            lines = [f"- {again}" for again in self.again[:_SHOWN]]
            if len(self.again) > _SHOWN:
                lines.append(f"- and {len(self.again) - _SHOWN} more")
            parts.append("\n".join([f"{self.pipeline}, as before:", *lines]))
        return self._clean("\n\n".join(parts))

    def document(self) -> dict[str, Any]:
        """The same for programs."""
        told: dict[str, Any] = {
            "format": 1,
            "id": self.id,
            "pipeline": self.pipeline,
            "subject": self.subject,
            "text": self.text,
            "notices": [self._document(notice) for notice in self.notices],
            "again": [
                {
                    "event": again.event,
                    "what": self._clean(again.what),
                    "times": again.times,
                    "since": _iso(again.since),
                    "last": _iso(again.last),
                }
                for again in self.again
            ],
        }
        return told

    def links(self, notice: Notice) -> dict[str, str]:
        """Where to look, by name."""
        found: dict[str, str] = {}
        if self.ui is not None:
            if notice.run_id:
                found["run"] = f"{self.ui}/runs/{notice.run_id}"
            if notice.asset:
                found["asset"] = f"{self.ui}/assets/{notice.pipeline}/{notice.asset}"
        elif notice.run_id:
            found["run"] = notice.run_id
        if notice.report:
            found["report"] = notice.report
        return found

    def _told(self, notice: Notice) -> str:
        lines = [f"{notice.pipeline}: {notice.what} ({clock(notice.at)}).", *notice.details]
        shown = {**notice.numbers, **self.links(notice)}
        if notice.next:
            shown["next"] = notice.next
        width = max(map(len, shown), default=0)
        lines += [f"  {name:<{width}}  {value}" for name, value in shown.items()]
        return "\n".join(lines)

    def _document(self, notice: Notice) -> dict[str, Any]:
        return {
            "event": notice.event,
            "what": self._clean(notice.what),
            "at": _iso(notice.at),
            "run_id": notice.run_id,
            "asset": notice.asset,
            "details": [self._clean(line) for line in notice.details],
            "numbers": {name: self._clean(value) for name, value in notice.numbers.items()},
            "next": notice.next,
            "links": {name: self._clean(link) for name, link in self.links(notice).items()},
        }

    def _clean(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return text


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
