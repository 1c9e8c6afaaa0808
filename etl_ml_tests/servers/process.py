"""A server as a process of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest

_REPOSITORY = Path(__file__).parents[2]


class Server:
    """One server on free ports of 127.0.0.1, with its data in one folder.

    `stop` and `kill` take it away in the middle of a test; `start` brings it back on the same
    ports, with the same data.
    """

    name: ClassVar[str]
    install: ClassVar[str]
    program: ClassVar[str]
    ports_needed: ClassVar[int] = 1
    seconds: ClassVar[float] = 60

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports(self.ports_needed)
        self.user: str | None = None  # whose processes they are; by default ours
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.ports[0]

    @classmethod
    def found(cls) -> str | None:
        """The program's path, or None where it is not installed."""
        places = [
            Path(sys.executable).parent,
            *map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep)),
            Path("/usr/sbin"),
            _REPOSITORY / "node_modules" / ".bin",
        ]
        return shutil.which(cls.program, path=os.pathsep.join(map(str, places)))

    def prepare(self) -> None:
        """What has to be there before the first start."""

    def command(self) -> list[str]:
        """Arguments after the program."""
        raise NotImplementedError

    def surroundings(self) -> dict[str, str]:
        """What it is started with."""
        return _environment()

    def ask(self) -> None:
        """One real round trip; raises while the server is not ready."""
        raise NotImplementedError

    def start(self) -> None:
        """Start and wait until the server answers; without effect while it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        program = self.found()
        assert program is not None, self.install
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *self.command()],
                cwd=self.folder,
                env=self.surroundings(),
                user=self.user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt is for pytest, which ends it in order
            )
        try:
            self._wait(self._process)
        except BaseException:
            self.kill()
            raise

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + self.seconds
        while True:
            try:
                return self.ask()
            except Exception as error:
                if process.poll() is None and time.monotonic() < end:
                    time.sleep(0.1)
                    continue
                log = (self.folder / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} did not start ({error}):\n{log}") from error

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
                self._process = None
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


S = TypeVar("S", bound=Server)
up: list[Server] = []  # by this pytest process


@contextmanager
def running(kind: type[S], folders: pytest.TempPathFactory) -> Iterator[S]:
    """The server for as long as the block; the test is skipped where it is not installed."""
    if kind.found() is None:
        pytest.skip(f"{kind.name} is not installed: {kind.install}")
    # A port that was free may be taken by the time the server asks for it.
    for attempt in range(3):
        server = kind(folders.mktemp(kind.__name__.lower()))
        server.prepare()
        try:
            server.start()
            break
        except RuntimeError:
            if attempt == 2:
                raise
    up.append(server)
    try:
        yield server
    finally:
        up.remove(server)
        server.kill()


def _environment() -> dict[str, str]:
    """Without what a test sets for clients: SeaweedFS takes AWS_* for its own credentials."""
    clients = ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR_")
    return {name: value for name, value in os.environ.items() if not name.startswith(clients)}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
