"""A service as users run it: `etl-ml serve` in a process of its own, asked over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ADDRESS = re.compile(r"on http://[\d.]+:(\d+)")


@dataclass(frozen=True)
class Reply:
    """What a service answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Serving:
    """A running service; its log is what it wrote to either stream."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = self._address()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    @property
    def memory(self) -> int:
        """Resident bytes of the process."""
        return self._status("VmRSS")

    @property
    def peak_memory(self) -> int:
        return self._status("VmHWM")

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> Reply:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(
        self, document: Any, path: str = "/invocations", kind: str = "application/json"
    ) -> Reply:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.ask("POST", path, body, {"content-type": kind})

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def metric(self, name: str, **labels: str) -> float:
        """A number as Prometheus would read it; 0 where there is none yet."""
        from prometheus_client.parser import text_string_to_metric_families

        for family in text_string_to_metric_families(self.get("/metrics").body.decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return 0.0

    def wait_for(self, line: str, seconds: float = 30) -> None:
        """Until the log has a text."""
        self._until(lambda: line in self.log, line, seconds)

    def stop(self, seconds: float = 30) -> int:
        """End it in order; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def _until(self, holds: Any, what: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end or self.process.poll() is not None:
                raise AssertionError(f"{what!r} did not come about:\n{self.log}")
            time.sleep(0.02)

    def _address(self) -> int:
        self._until(lambda: "startup complete" in self.log, "startup complete", 60)
        found = _ADDRESS.search(self.log)
        assert found, self.log
        return int(found[1])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", text)
        assert found
        return int(found[1]) * 1024


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "etl-ml"), "serve", *arguments]


def environment(lake: str | Path | None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ETL_ML_")}
    found = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | dict(extra or {})
    return kept | found | ({} if lake is None else {"ETL_ML_LAKE": str(lake)})


@contextmanager
def serving(
    lake: str | Path | None, *arguments: str, extra: Mapping[str, str] | None = None
) -> Iterator[Serving]:
    """`etl-ml serve` on a free port, for as long as the block."""
    process = subprocess.Popen(
        command(*arguments, "--port", "0"),
        env=environment(lake, extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield Serving(process)
    finally:
        process.kill()
        process.wait()


def refused(
    lake: str | Path | None, *arguments: str, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`etl-ml serve` where it is to end by itself."""
    return subprocess.run(
        command(*arguments),
        env=environment(lake, extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
