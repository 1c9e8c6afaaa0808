"""Dagster's daemon over one project, as a process of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from etl_ml_tests.project import Project


class Daemon:
    """The daemon of one instance.

    Attributes
    ----------
    home : DAGSTER_HOME, made if it is not there
    log : what it says
    """

    def __init__(self, project: Project, home: Path, **environment: str) -> None:
        self.project, self.home, self.log = project, home, home / "daemon.log"
        self._environment = environment
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a run needs for the daemon to know of it."""
        return {"DAGSTER_HOME": str(self.home), **self._environment}

    def start(self) -> None:
        """Start it, and wait until its storage is there: a run's process would make it, too."""
        program = Path(sys.executable).parent / "dagster-daemon"
        size = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "run", "-m", f"{self.project.module}.definitions"],
                cwd=self.project.root,
                env=self.project.environment(**self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_for(lambda: "Instance is configured" in self.log.read_text()[size:])

    def wait_for(self, happened: Callable[[], bool], seconds: float = 180) -> None:
        """Wait until something has happened; if it does not, the log says why."""
        end = time.monotonic() + seconds
        while not happened():
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > end:
                raise AssertionError(self.log.read_text()[-5000:])
            time.sleep(0.2)

    def kill(self) -> None:
        """End it, and the code servers that it started, as a power cut does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
