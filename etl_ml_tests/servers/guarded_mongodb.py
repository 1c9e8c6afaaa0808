"""A MongoDB server that asks who one is."""

from __future__ import annotations

from pymongo import MongoClient

from etl_ml_tests.servers.mongodb import MongoDB


class GuardedMongoDB(MongoDB):
    """`writer` may read and write the database `lake`, `reader` only read it."""

    password = "the-password-of-tests"
    _guarded = False

    def uri_of(self, user: str, password: str = password) -> str:
        return f"mongodb://{user}:{password}@127.0.0.1:{self.port}/lake?authSource=admin"

    def prepare(self) -> None:
        self.start()
        with MongoClient(self.uri) as client:
            for user, role in (("writer", "readWrite"), ("reader", "read")):
                roles = [{"role": role, "db": "lake"}]
                client.admin.command("createUser", user, pwd=self.password, roles=roles)
        self.stop()
        self._guarded = True

    def command(self) -> list[str]:
        return [*super().command(), *(["--auth"] if self._guarded else [])]

    def ask(self) -> None:
        with self.client(serverSelectionTimeoutMS=500) as client:
            client.admin.command("hello")
