"""What goes wrong on the way to a destination, and what is there afterwards."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl_ml.lake import Lake
from etl_ml.load.load_error import LoadError
from etl_ml_tests.load.loading import at_batch, frame, killed, taken, version
from etl_ml_tests.servers.mariadb import MariaDB
from etl_ml_tests.servers.mongodb import MongoDB

MODES = ["replace", "append", "upsert"]
OLD, NEW = frame(300, "old"), frame(1_000)


def expected(mode: str) -> list[tuple[Any, ...]]:
    """What a destination holds after OLD and then NEW."""
    rows = pl.concat([OLD, NEW]) if mode == "append" else NEW
    return sorted(rows.drop("_etl_ml_row").rows())


class Tables:
    """The tables of MariaDB, asked by a connection of the test's own."""

    def __init__(self, server: MariaDB) -> None:
        self.server = server

    def keys(self, name: str, mode: str) -> dict[str, Any]:
        return {"type": "sql", "url": self.server.url, "table": name, "mode": mode}

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        with self.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT id, amount, text FROM {name}")
            return sorted(cursor.fetchall())

    def names(self) -> list[str]:
        with self.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW TABLES")
            return [name for (name,) in cursor]


class Collections:
    """The collections of MongoDB, asked by a client of the test's own."""

    def __init__(self, server: MongoDB) -> None:
        self.server = server

    def keys(self, name: str, mode: str) -> dict[str, Any]:
        to = {"type": "mongodb", "uri": self.server.uri, "database": "faults"}
        return {**to, "collection": name, "mode": mode}

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        with self.server.client() as client:
            # In one batch: a cursor that crosses the swap is told that its collection is gone.
            found = client.faults[name].find({}, {"_id": 0}, batch_size=100_000).to_list()
        return sorted((row["id"], row["amount"], row["text"]) for row in found)

    def names(self) -> list[str]:
        with self.server.client() as client:
            return client.faults.list_collection_names()


@pytest.fixture(params=["mariadb", "mongodb"])
def store(request: pytest.FixtureRequest) -> Tables | Collections:
    server = request.getfixturevalue(request.param)
    return Tables(server) if isinstance(server, MariaDB) else Collections(server)


@contextmanager
def reading(read: Callable[[], object]) -> Iterator[list[object]]:
    """What a reader who asks all the time is told."""
    seen: list[object] = []
    end = threading.Event()

    def again_and_again() -> None:
        while not end.is_set():
            seen.append(read())
            time.sleep(0.01)

    reader = threading.Thread(target=again_and_again)
    reader.start()
    try:
        yield seen
    finally:
        end.set()
        reader.join()


@pytest.mark.parametrize("number", [3, 99])
@pytest.mark.parametrize("mode", MODES)
def test_a_load_killed_and_run_again_is_exact(
    lake: Lake, store: Tables | Collections, mode: str, number: int
) -> None:
    name = f"killed_{mode}_{number}"
    keys = store.keys(name, mode)
    taken(version(lake, OLD), **keys)
    before, of = store.rows(name), version(lake, NEW)
    if mode == "replace":
        with reading(lambda: store.rows(name)) as seen:
            killed(lake, of, number, **keys)
            taken(of, **keys)
        assert seen[0] == before
        assert all(rows in (before, expected(mode)) for rows in seen)
    else:
        killed(lake, of, number, **keys)
        if isinstance(store, Tables):
            assert store.rows(name) == before
        taken(of, **keys)
    assert store.rows(name) == expected(mode)
    assert not [n for n in store.names() if "etl_ml" in n]


@pytest.mark.parametrize("number", [3, 99])
@pytest.mark.parametrize("path", ["out.parquet", "out.csv.gz", "folder"])
def test_a_file_of_a_killed_load_is_the_last_one_and_the_next_load_clears_up(
    lake: Lake, tmp_path: Path, path: str, number: int
) -> None:
    to = tmp_path / "to"
    keys = {"type": "file", "path": str(to / path)}
    taken(version(lake, OLD), **keys)
    before = {p: p.read_bytes() for p in to.rglob("*") if p.is_file()}
    of = version(lake, NEW)
    killed(lake, of, number, **keys)
    assert {p: p.read_bytes() for p in before} == before
    taken(of, **keys)
    assert {p for p in to.rglob("*") if p.is_file()} == before.keys()
    (file,) = before
    rows = pl.read_csv(file) if path.endswith("gz") else pl.read_parquet(file)
    assert sorted(rows.drop("_etl_ml_row").rows()) == expected("replace")


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_is_away_for_a_while_is_waited_for(
    lake: Lake, store: Tables | Collections, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"away_{mode}"
    keys = store.keys(name, mode)
    taken(version(lake, OLD), **keys)
    back = threading.Timer(2, store.server.start)

    def leave() -> None:
        store.server.kill()
        back.start()

    at_batch(monkeypatch, 4, leave)
    taken(version(lake, NEW), **keys)
    back.join()
    assert store.rows(name) == expected(mode)
    assert not [n for n in store.names() if "etl_ml" in n]


def refused(lake: Lake, **keys: Any) -> str:
    """What is told, at once."""
    of = version(lake, NEW)
    began = time.monotonic()
    with pytest.raises(LoadError) as error:
        taken(of, **keys)
    assert time.monotonic() - began < 8, "it was tried again and again"
    assert "hunter2" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("root@", "root:hunter2@"), "the user or the password is wrong"),
        (("root@127.0.0.1", "root:hunter2@no-such-host.invalid"), "the host is unknown"),
        (("/test", "/elsewhere"), "there is no such database"),
        (("root@", "reader:hunter2@"), "the user lacks a right"),
    ],
)
def test_mysql_that_refuses_is_told_at_once(
    lake: Lake, mariadb: MariaDB, change: tuple[str, str], told: str
) -> None:
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE USER reader IDENTIFIED BY 'hunter2'")
        cursor.execute("GRANT SELECT ON test.* TO reader")
    keys = {"type": "sql", "url": mariadb.url.replace(*change), "table": "refused"}
    assert told in refused(lake, **keys)
    assert "refused" not in Tables(mariadb).names()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("//", "//nobody:hunter2@"), "the user or the password is wrong"),
        (("//127.0.0.1", "//nobody:hunter2@no-such-host.invalid"), "the host is unknown"),
        (("//", "//nobody:hunter2@:"), "cannot be used"),
    ],
)
def test_mongodb_that_refuses_is_told_at_once(
    lake: Lake, mongodb: MongoDB, change: tuple[str, str], told: str
) -> None:
    keys = {"type": "mongodb", "database": "faults", "collection": "refused"}
    assert told in refused(lake, uri=mongodb.uri.replace(*change), **keys)


def test_a_sqlite_file_that_cannot_be_written_is_told_at_once(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but a file of more than a hundred bytes" * 9)
    sqlite3.connect(tmp_path / "only.db").execute("CREATE TABLE t (id INTEGER)")
    for path, told in {
        tmp_path / "missing" / "d.db": "cannot be opened",
        tmp_path / "text": "not a SQLite database",
    }.items():
        assert told in refused(lake, type="sql", url=f"sqlite:///{path}", table="t")
    only = f"sqlite:///file:{tmp_path / 'only.db'}?mode=ro&uri=true"
    assert "read-only" in refused(lake, type="sql", url=only, table="t2")


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_lock_that_is_held_for_a_while_is_waited_for(
    lake: Lake, mariadb: MariaDB, mode: str
) -> None:
    tables = Tables(mariadb)
    lines: list[str] = []
    keys = tables.keys(f"locked_{mode}", mode)
    taken(version(lake, OLD), **keys)
    with mariadb.connect() as other, other.cursor() as cursor:
        cursor.execute("SET GLOBAL innodb_lock_wait_timeout = 1")
        cursor.execute(f"SELECT * FROM locked_{mode} FOR UPDATE")
        free = threading.Timer(2.5, other.rollback)
        free.start()
        taken(version(lake, NEW), progress=lines.append, **keys)
        free.join()
        cursor.execute("SET GLOBAL innodb_lock_wait_timeout = 50")
    assert [line for line in lines if "(1205)" in line]
    assert tables.rows(f"locked_{mode}") == expected(mode)


def test_the_victim_of_a_deadlock_begins_anew(lake: Lake, mariadb: MariaDB) -> None:
    tables = Tables(mariadb)
    keys = tables.keys("embraced", "upsert")
    lines: list[str] = []
    taken(version(lake, OLD), **keys)
    with mariadb.connect() as other, other.cursor() as cursor:
        cursor.execute("CREATE TABLE heavy (id INTEGER PRIMARY KEY)")
        cursor.execute("INSERT INTO heavy SELECT seq FROM seq_1_to_20000")
        cursor.execute("UPDATE embraced SET text = 'theirs' WHERE id = 299")

        def embrace() -> None:
            cursor.execute("UPDATE embraced SET text = 'theirs' WHERE id = 0")
            other.rollback()

        third = threading.Timer(1, embrace)
        third.start()
        taken(version(lake, NEW), progress=lines.append, **keys)
        third.join()
    assert [line for line in lines if "(1213)" in line]
    assert tables.rows("embraced") == expected("upsert")


@pytest.mark.parametrize("mode", MODES)
def test_a_text_that_does_not_fit_is_named_and_changes_nothing(
    lake: Lake, mariadb: MariaDB, mode: str
) -> None:
    name = f"narrow_{mode}"
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {name} (id BIGINT PRIMARY KEY, amount DOUBLE, text VARCHAR(3), "
            "_etl_ml_row VARCHAR(64))"
        )
        cursor.execute(f"INSERT INTO {name} VALUES (1, 2, 'old', 'x')")
        connection.commit()
    rows = frame(50).with_columns(
        text=pl.when(pl.col("id") == 40).then(pl.lit("much too long")).otherwise("text")
    )
    rows = rows.with_columns(text=pl.col("text").replace("text", "abc"))
    told = refused_rows(lake, rows, **Tables(mariadb).keys(name, mode))
    assert "column 'text'" in told
    assert rows["_etl_ml_row"][40] in told
    assert Tables(mariadb).rows(name) == [(1, 2.0, "old")]
    assert not [n for n in Tables(mariadb).names() if "etl_ml" in n]


def refused_rows(lake: Lake, rows: pl.DataFrame, **keys: Any) -> str:
    with pytest.raises(LoadError) as error:
        taken(version(lake, rows), **keys)
    return str(error.value)


def test_a_read_only_server_is_told_at_once(lake: Lake, mariadb: MariaDB) -> None:
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE USER writer IDENTIFIED BY 'hunter2'")
        cursor.execute("GRANT ALL ON test.* TO writer")
        cursor.execute("SET GLOBAL read_only = 1")
        try:
            url = mariadb.url.replace("root@", "writer:hunter2@")
            assert "read-only" in refused(lake, type="sql", url=url, table="only_read")
        finally:
            cursor.execute("SET GLOBAL read_only = 0")


def test_two_rows_of_one_key_are_told_before_anything_is_changed(
    lake: Lake, store: Tables | Collections
) -> None:
    keys = store.keys("twice", "upsert")
    taken(version(lake, OLD), **keys)
    rows = NEW.with_columns(id=pl.col("id").replace(999, 0))
    assert "two rows have one key" in refused_rows(lake, rows, **keys)
    assert store.rows("twice") == expected_of(OLD)


def expected_of(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    return sorted(rows.drop("_etl_ml_row").rows())


def test_of_two_loads_at_once_one_is_there_as_a_whole(
    lake: Lake, store: Tables | Collections
) -> None:
    keys = store.keys("race", "replace")
    taken(version(lake, OLD), **keys)
    loads = [frame(700, "a"), frame(800, "b")]
    versions = [version(lake, rows) for rows in loads]
    whole = [expected_of(rows) for rows in (OLD, *loads)]
    with reading(lambda: store.rows("race")) as seen, ThreadPoolExecutor() as pool:
        for _ in range(2):
            list(pool.map(lambda of: taken(of, **keys), versions))
    assert all(rows in whole for rows in seen)
    assert store.rows("race") in whole[1:]
    assert not [n for n in store.names() if "etl_ml" in n]


@pytest.mark.parametrize("to", ["file", "sqlite"])
def test_of_two_local_loads_at_once_one_is_there_as_a_whole(
    lake: Lake, tmp_path: Path, to: str
) -> None:
    path = tmp_path / "to" / "rows"
    path.parent.mkdir()
    keys: dict[str, Any] = {"type": "file", "path": f"{path}.parquet"}
    if to == "sqlite":
        keys = {"type": "sql", "url": f"sqlite:///{path}.db", "table": "t"}
    loads = [frame(700, "a"), frame(800, "b")]
    versions = [version(lake, rows) for rows in loads]
    with ThreadPoolExecutor() as pool:
        for _ in range(3):
            list(pool.map(lambda of: taken(of, **keys), versions))
    if to == "file":
        found = expected_of(pl.read_parquet(f"{path}.parquet"))
    else:
        with sqlite3.connect(f"{path}.db") as database:
            found = sorted(database.execute("SELECT id, amount, text FROM t"))
    assert found in [expected_of(rows) for rows in loads]
    assert len(list(path.parent.iterdir())) == 1
