"""Which runs are at work on a pipeline, whoever started them and wherever they are.

A run's processes write a small object every quarter of a minute and remove it when they end. One
that stays as it is belongs to a process that was killed.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from etl_ml.lake.documents import dump_json
from etl_ml.lake.lake import Lake
from etl_ml.spec.error import EtlMlError

SECONDS = 15.0
_PROCESS = "{pipeline}/alive/{run_id}/{process}.json"


@dataclass(frozen=True)
class Sign:
    """What one process of a run wrote last.

    Attributes
    ----------
    beat : grows while the process lives
    process : machine, number and start of the process, None where the system does not tell
    """

    name: str
    run_id: str
    beat: int
    process: str | None

    def is_of_the_dead(self) -> bool:
        """Whether the process was on this very machine, and is not there any more."""
        if self.process is None:
            return False
        machine, pid, start = self.process.rsplit(" ", 2)
        return machine == _machine() and _started(int(pid)) != start


@contextmanager
def beating(lake: Callable[[], Lake], pipeline: str, run_id: str) -> Iterator[None]:
    """Signs of life for as long as the block; a store that does not take them harms nobody.

    Parameters
    ----------
    lake : opened in a thread of its own, not before
    """
    ended = threading.Event()
    name = _PROCESS.format(pipeline=pipeline, run_id=run_id, process=secrets.token_hex(8))
    thread = threading.Thread(target=_beat, args=(lake, name, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def signs(lake: Lake, pipeline: str) -> list[Sign]:
    """The last signs of all runs that have not ended in order."""
    found = []
    for entry in lake.backend.walk(f"{pipeline}/alive/"):
        data = lake.backend.get(entry.name)
        if data is not None:  # else it has ended meanwhile
            told = json.loads(data)
            found.append(Sign(entry.name, entry.name.split("/")[-2], told["beat"], told["process"]))
    return found


def _beat(lake: Callable[[], Lake], name: str, ended: threading.Event) -> None:
    process, beat = _this_process(), 0
    written = False
    while True:
        with suppress(EtlMlError):
            lake().backend.put(name, dump_json({"beat": beat, "process": process}))
            written = True
        if ended.wait(SECONDS):
            break
        beat += 1
    if written:
        with suppress(EtlMlError):
            lake().backend.delete(name)


def _this_process() -> str | None:
    machine, start = _machine(), _started(os.getpid())
    return f"{machine} {os.getpid()} {start}" if machine and start else None


def _machine() -> str | None:
    """The boot of this machine, and its space of process numbers: containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process began, in ticks since boot; None where there is none, or a dead one."""
    try:
        # Behind the name, which may hold anything: state, parent, …
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
