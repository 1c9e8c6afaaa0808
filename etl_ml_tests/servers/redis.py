"""Redis, as a broker of Celery."""

from __future__ import annotations

from redis import Redis as Client

from etl_ml_tests.servers.process import Server


class Redis(Server):
    """Nothing is kept after `stop`; a password is asked for."""

    name = "Redis"
    install = "apt-get install redis-server"
    program = "redis-server"
    password = "the-secret-of-tests"

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        return [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--requirepass", self.password, "--save", "", "--appendonly", "no"),
        ]

    def ask(self) -> None:
        with Client.from_url(self.url()) as client:
            client.ping()
