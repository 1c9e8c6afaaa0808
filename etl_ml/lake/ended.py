"""How a pipeline's last runs ended: hints for those who watch it, overwritten by each run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from etl_ml.lake.documents import dump_json
from etl_ml.lake.lake import Lake

Ending = Literal["succeeded", "failed"]


@dataclass(frozen=True)
class Ended:
    """A run that came to its end; of one that was killed there is none.

    Attributes
    ----------
    at : in seconds since 1970
    seconds : by asset, how long its steps took; of those that were run
    failed : the assets whose steps failed
    """

    run_id: str
    at: float
    seconds: Mapping[str, float]
    failed: tuple[str, ...] = ()

    @property
    def ending(self) -> Ending:
        return "failed" if self.failed else "succeeded"


def write_ended(lake: Lake, pipeline: str, ended: Ended) -> None:
    """Remember a run as the last one that succeeded, or failed."""
    lake.backend.put(_name(pipeline, ended.ending), dump_json(asdict(ended)))


def read_ended(lake: Lake, pipeline: str, ending: Ending) -> Ended | None:
    """The last run that ended so; None where there was none, or it cannot be read any more."""
    data = lake.backend.get(_name(pipeline, ending))
    try:
        found: dict[str, Any] = json.loads(data or b"")
        return Ended(**{**found, "failed": tuple(found["failed"])})
    except (ValueError, TypeError, KeyError):
        return None


def _name(pipeline: str, ending: Ending) -> str:
    return f"{pipeline}/runs/{ending}.json"
