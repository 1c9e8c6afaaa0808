"""PostgreSQL, as Debian packages it."""

from __future__ import annotations

import atexit
import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import psycopg

from etl_ml_tests.servers.process import Server

_numbers = count()


class PostgreSQL(Server):
    """`database()` makes a fresh one; its user is `tests`, with a password."""

    name = "PostgreSQL"
    install = "apt-get install postgresql"
    program = "postgres"
    password = "the-secret-of-tests"

    @classmethod
    def found(cls) -> str | None:
        newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2])
        return shutil.which(cls.program, path=os.pathsep.join([*map(str, newest[::-1])]))

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://tests:{self.password}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        name = f"database_{next(_numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def prepare(self) -> None:
        program = self.found()
        assert program is not None, self.install
        # Root may not run it: then the packaged user does, in a folder of its own, because pytest
        # keeps its folders to who runs it.
        if getpass.getuser() == "root":
            self.user = "postgres"
            self.folder = Path(tempfile.mkdtemp(prefix="etl_ml_postgresql_"))
            atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
            os.chown(self.folder, pwd.getpwnam("postgres").pw_uid, -1)
        (self.folder / "password").write_text(self.password)
        subprocess.run(
            [
                *(str(Path(program).with_name("initdb")), "--username=tests"),
                *(f"--pgdata={self.folder / 'data'}", f"--pwfile={self.folder / 'password'}"),
                *("--auth=scram-sha-256", "--no-sync"),
            ],
            cwd=self.folder,
            user=self.user,
            check=True,
            capture_output=True,
        )

    def command(self) -> list[str]:
        return [
            *("-D", str(self.folder / "data"), "-p", str(self.port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
        ]

    def ask(self) -> None:
        psycopg.connect(self.url(), connect_timeout=2).close()
