"""MongoDB's wire protocol, by SecantusDB."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient

from etl_ml_tests.servers.process import Server


class MongoDB(Server):
    """`uri` for the product; `client()` for the test, which closes it."""

    name = "SecantusDB"
    install = "pip install secantusdb==0.7.0b3"
    program = "secantusd-py"

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.uri, **options)

    def command(self) -> list[str]:
        return [
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--storage-path", str(self.folder / "data")),
            # Without it a kill can lose what was acknowledged.
            *("--sync-on-commit", "--log-level", "WARNING"),
        ]

    def ask(self) -> None:
        with self.client(serverSelectionTimeoutMS=500) as client:
            client.admin.command("ping")
