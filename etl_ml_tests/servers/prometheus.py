"""Prometheus, and its push gateway."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from etl_ml_tests.servers.process import Server

_PACKAGES = "apt-get install prometheus prometheus-pushgateway"


class PushGateway(Server):
    """Keeps what is pushed in memory."""

    name = "Prometheus' push gateway"
    install = _PACKAGES
    program = "prometheus-pushgateway"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [f"--web.listen-address={self.address}"]

    def ask(self) -> None:
        read(f"http://{self.address}/-/ready")


class Prometheus(Server):
    """A server whose configuration a test writes, and which it tells to read it again."""

    name = "Prometheus"
    install = _PACKAGES
    program = "prometheus"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.folder / "prometheus.yml"

    def prepare(self) -> None:
        self.config.write_text("scrape_configs: []\n")

    def command(self) -> list[str]:
        return [
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
        ]

    def ask(self) -> None:
        read(f"{self.url}/-/ready")

    def configure(self, config: str) -> None:
        """Take another configuration."""
        self.config.write_text(config)
        urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/-/reload", method="POST"), timeout=30
        ).close()

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant query: metric and value of each series."""
        asked = {"query": expression} | ({} if at is None else {"time": str(at)})
        answer = read(f"{self.url}/api/v1/query?{urllib.parse.urlencode(asked)}")
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def wait_for(self, expression: str, seconds: float = 60) -> list[dict[str, Any]]:
        """The result of a query once there is any."""
        end = time.monotonic() + seconds
        while not (found := self.query(expression)):
            assert time.monotonic() < end, f"nothing for {expression}"
            time.sleep(0.2)
        return found


def read(url: str) -> Any:
    """The JSON, or the text, at a URL."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        data = answer.read().decode()
    return json.loads(data) if data.startswith("{") else data
