"""Dagster's daemon as a process of the test's own, with a home that outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorTick

from etl_ml_tests.project import Project

_PROGRAMS = {
    "daemon": b"dagster-daemon",
    "code server": b"grpc",
    "run": b"multiprocessing.spawn",
}


class Daemon:
    """`dagster-daemon run` on a project; what it starts belongs to its session and ends with it.

    Parameters
    ----------
    settings : the text of dagster.yaml
    """

    def __init__(self, project: Project, settings: str = "", **environment: str) -> None:
        self.project = project
        self.home = project.root / "dagster_home"
        if not self.home.exists():
            self.home.mkdir()
            (self.home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{settings}")
        self.instance = dg.DagsterInstance.from_config(str(self.home))
        # Two processes that make the tables at once are in each other's way.
        self.instance.get_runs()
        self.instance.all_instigator_state()
        self.instance.get_latest_materialization_event(dg.AssetKey("none"))
        self._environment = project.environment(DAGSTER_HOME=str(self.home), **environment)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start one more, or the one that was killed."""
        command = [
            *(str(Path(sys.executable).parent / "dagster-daemon"), "run"),
            *("-m", f"{self.project.module}.definitions"),
        ]
        with (self.home / "log").open("ab") as log:
            self._started.append(
                subprocess.Popen(
                    command,
                    cwd=self.project.root,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def is_running(self) -> bool:
        return any(process.poll() is None for process in self._started)

    def processes(self, kind: str) -> list[int]:
        """Of the kinds `daemon`, `code server` and `run`."""
        sessions = {process.pid for process in self._started}
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                command = (entry / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue  # it has ended meanwhile
            if session in sessions and _PROGRAMS[kind] in command:
                found.append(int(entry.name))
        return found

    def kill(self, *kinds: str) -> int:
        """Kill all processes of these kinds as a power cut does; returns how many there were."""
        killed = 0
        for kind in kinds:
            for pid in self.processes(kind):
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    continue
        for process in self._started:
            if "daemon" in kinds:
                process.wait(20)
        return killed

    def stop(self) -> None:
        """End everything."""
        self.kill("daemon", "code server", "run")
        self.instance.dispose()

    def ticks(self, sensor: str, last: int | None = None) -> Sequence[InstigatorTick]:
        """The newest looks of a sensor, newest first."""
        for state in self.instance.all_instigator_state():
            if state.instigator_name == sensor:
                origin = state.instigator_origin_id
                return self.instance.get_ticks(origin, state.selector_id, limit=last)
        return []

    def skips(self, sensor: str, last: int = 20) -> list[str]:
        """What they have said."""
        return [str(tick.skip_reason or tick.status.value) for tick in self.ticks(sensor, last)]

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-4000:]


def until(holds: Callable[[], bool], seconds: float, told: Callable[[], object]) -> None:
    """Wait for something; `told` says what is the matter where it does not come."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, told()
        time.sleep(0.25)
