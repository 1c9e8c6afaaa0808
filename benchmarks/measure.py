"""What a piece of code costs, in a fresh process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FRAME = """
import json as _json, resource as _resource, sys as _sys, time as _time, warnings as _warnings
_warnings.simplefilter("ignore")
{setup}
def _cpu():
    used = _resource.getrusage(_resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
_start, _wall = _cpu(), _time.perf_counter()
{code}
_used = dict(cpu=_cpu() - _start, wall=_time.perf_counter() - _wall)
_used["rss"] = _resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss / 1024
_json.dump(_used, open(_sys.argv[1], "w"))
"""


@dataclass(frozen=True)
class Cost:
    """CPU seconds (user and system) and wall seconds of code; peak memory of its process, MB."""

    cpu: float
    wall: float
    rss: float


def measure(
    code: str,
    *,
    setup: str = "",
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Cost:
    """Run `setup`, which is not counted (imports), then `code`, which is."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as told:
        program = _FRAME.format(setup=setup, code=code)
        subprocess.run(
            [python, "-c", program, told.name],
            check=True,
            cwd=Path(__file__).parents[1],
            env=None if environment is None else dict(environment),
        )
        return Cost(**json.load(told))


def print_table(title: str, rows: list[list[str]]) -> None:
    """Columns of text, aligned; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip(), flush=True)


def against(peer: Cost, ours: Cost) -> list[str]:
    """CPU seconds and memory of both, and the peer's over ours."""
    return [
        f"{ours.cpu:.1f}",
        f"{peer.cpu / ours.cpu:.1f} ×",
        f"{ours.rss:,.0f}",
        f"{peer.rss / ours.rss:.1f} ×",
    ]
