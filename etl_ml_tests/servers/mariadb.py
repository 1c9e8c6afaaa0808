"""MySQL, by MariaDB."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from typing import Any

import pymysql

from etl_ml_tests.servers.process import Server


class MariaDB(Server):
    """An empty database `test`; its user is root, without a password."""

    name = "MariaDB"
    install = "apt-get install mariadb-server"
    program = "mariadbd"

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/test"

    def connect(self, **options: Any) -> pymysql.Connection[Any]:
        settings = {"database": "test", "charset": "utf8mb4", "local_infile": True, **options}
        return pymysql.connect(host="127.0.0.1", port=self.port, user="root", **settings)

    def prepare(self) -> None:
        install = shutil.which("mariadb-install-db")
        assert install is not None, self.install
        subprocess.run(
            [
                *(install, "--no-defaults", f"--user={getpass.getuser()}"),
                *(f"--datadir={self.folder / 'data'}", "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            ],
            check=True,
            capture_output=True,
        )

    def command(self) -> list[str]:
        return [
            *("--no-defaults", f"--user={getpass.getuser()}"),
            *("--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve"),
            # Relative to the data: the path of a socket may have 107 characters.
            *(f"--datadir={self.folder / 'data'}", "--socket=socket", "--pid-file=pid"),
            *("--character-set-server=utf8mb4", "--local-infile=1"),
            *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M"),
        ]

    def ask(self) -> None:
        with self.connect(database=None, connect_timeout=2) as connection:
            connection.cursor().execute("CREATE DATABASE IF NOT EXISTS test")
