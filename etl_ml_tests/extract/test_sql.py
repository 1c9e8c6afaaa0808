from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_ml.extract.reader import Reader, Since
from etl_ml.extract.source_error import SourceError
from etl_ml.extract.sql import open_sql
from etl_ml.lake.identity import ORIGINAL
from etl_ml.spec.contract import Contract
from etl_ml.spec.source import SqlSource
from etl_ml_tests.servers.mariadb import MariaDB

CONTRACT = Contract.model_validate({"columns": {"id": {"type": "integer"}}})


def opened(
    url: str, key: Sequence[str] = (), since: Since | None = None, **settings: Any
) -> Reader:
    source = SqlSource.model_validate({"type": "sql", "url": url, **settings})
    return open_sql(source, CONTRACT, key, since)


def read(
    url: str, key: Sequence[str] = (), since: Since | None = None, **settings: Any
) -> pa.Table:
    reader = opened(url, key, since, **settings)
    return pa.Table.from_batches(list(reader), reader.schema)


@pytest.fixture
def run(mariadb: MariaDB) -> Any:
    """Runs statements on an empty database; the last one's rows."""

    def execute(*statements: str) -> Any:
        with mariadb.connect(autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()

    execute("DROP DATABASE IF EXISTS test", "CREATE DATABASE test")
    return execute


def numbers(run: Any, rows: int, table: str = "numbers") -> None:
    run(
        f"CREATE TABLE {table} (id BIGINT PRIMARY KEY, half INT, name VARCHAR(40))",
        f"INSERT INTO {table} SELECT seq, seq DIV 2, CONCAT('n', seq) FROM seq_1_to_{rows}",
    )


TYPES = """CREATE TABLE cells (
    id INT PRIMARY KEY, tiny TINYINT(1), utiny TINYINT UNSIGNED, umed MEDIUMINT UNSIGNED,
    uint INT UNSIGNED, ubig BIGINT UNSIGNED, price DECIMAL(10,2), wide DECIMAL(38,10),
    widest DECIMAL(65,30), f FLOAT, d DOUBLE, day DATE, at DATETIME(6), stamp TIMESTAMP(6) NULL,
    t TIME(6), y YEAR, b BIT(8), text_ VARCHAR(50), bin_ VARCHAR(50) COLLATE utf8mb4_bin,
    latin VARCHAR(9) CHARACTER SET latin1, j JSON, bytes_ BLOB, e ENUM('a','b'),
    `odd``%s: name` INT)
"""


def test_every_type_of_mysql_arrives_as_it_was(mariadb: MariaDB, run: Any) -> None:
    run(
        TYPES,
        "SET time_zone = '+05:00'",
        "INSERT INTO cells VALUES (1, 5, 255, 16777215, 4294967295, 9223372036854775807,"
        "'12345678.90', '-1234567890123456789012345678.0123456789',"
        "'12345678901234567890123456789012345.012345678901234567890123456789', 0.5, 0.1,"
        "'2020-02-29', '2020-02-29 12:34:56.123456', '2020-02-29 05:00:00.5', '-800:00:01.5', 2020,"
        "b'10000001', 'é😀 %s \\\\', 'B', 'ü', '{\"a\": [1, 2.50]}', x'00ff', 'b', 7)",
        "INSERT INTO cells (id) VALUES (2)",
    )
    table = read(mariadb.url, table="cells")
    first, second = table.sort_by("id").to_pylist()
    assert first == {
        **{"id": 1, "tiny": 5, "utiny": 255, "umed": 16777215, "uint": 4294967295},
        **{"ubig": 2**63 - 1, "price": Decimal("12345678.90"), "f": 0.5, "d": 0.1},
        "wide": Decimal("-1234567890123456789012345678.0123456789"),
        "widest": "12345678901234567890123456789012345.012345678901234567890123456789",
        "day": date(2020, 2, 29),
        "at": datetime(2020, 2, 29, 12, 34, 56, 123456),
        "stamp": datetime(2020, 2, 29, 0, 0, 0, 500000, tzinfo=UTC),
        **{"t": "-800:00:01.500000", "y": 2020, "b": 129, "text_": "é😀 %s \\", "bin_": "B"},
        **{"latin": "ü", "j": '{"a": [1, 2.50]}', "bytes_": b"\x00\xff", "e": "b"},
        **{"odd`%s: name": 7, ORIGINAL: None},
    }
    assert {name for name, value in second.items() if value is not None} == {"id"}
    assert table.schema.field("price").type == pa.decimal128(10, 2)
    assert table.schema.field("stamp").type == pa.timestamp("us", "UTC")


def test_a_cell_that_no_type_can_hold_stands_beside_the_row(mariadb: MariaDB, run: Any) -> None:
    run(
        TYPES,
        "SET sql_mode = ''",
        "INSERT INTO cells (id, day, at, stamp, ubig) VALUES"
        "(1, '0000-00-00', '2020-00-10 01:02:03', 0, 18446744073709551615),"
        "(2, '2020-01-01', NULL, '2020-01-01', 1)",
    )
    broken, sound = read(mariadb.url, table="cells").sort_by("id").to_pylist()
    assert [broken[name] for name in ("day", "at", "stamp", "ubig")] == [None] * 4
    assert json.loads(broken[ORIGINAL]) == {
        **{"day": "0000-00-00", "at": "2020-00-10 01:02:03.000000"},
        **{"stamp": "0000-00-00 00:00:00.000000", "ubig": "18446744073709551615"},
    }
    assert sound[ORIGINAL] is None
    assert sound["day"] == date(2020, 1, 1)


def test_both_ways_of_reading_give_the_same(mariadb: MariaDB, run: Any) -> None:
    run(
        TYPES,
        "INSERT INTO cells (id, price, day, at, stamp, ubig, b, j, t, bytes_, f, text_) VALUES"
        "(1, 1.50, '2020-01-01', '2020-01-01', '2020-01-01', 18446744073709551615, 3, '[1]',"
        "'01:00', 'x', 0.1, 'ä')",
    )
    fast = read(mariadb.url, table="cells")
    # An option that connectorx does not know leaves the read to the driver.
    assert read(f"{mariadb.url}?local_infile=0", table="cells").equals(fast)


@pytest.mark.parametrize("rows", [0, 1, 999, 1000, 1001, 2000])
def test_ranges_join_without_a_gap(mariadb: MariaDB, run: Any, rows: int) -> None:
    run("CREATE TABLE numbers (id BIGINT PRIMARY KEY)")
    if rows:
        run(f"INSERT INTO numbers SELECT seq * 7 FROM seq_1_to_{rows}")
    reader = opened(mariadb.url, table="numbers", batch_rows=1000)
    batches = list(reader)
    assert all(0 < batch.num_rows <= 1000 for batch in batches)
    assert [v for b in batches for v in b["id"].to_pylist()] == [7 * i for i in range(1, rows + 1)]


def test_keys_that_repeat_or_are_null_lose_no_row(mariadb: MariaDB, run: Any) -> None:
    run(
        "CREATE TABLE ties (a VARCHAR(9) COLLATE utf8mb4_general_ci, b INT, n INT)",
        "INSERT INTO ties SELECT ELT(1 + seq MOD 5, 'x', 'X', 'y\\'\\\\', NULL, 'ä'), seq DIV 90,"
        " seq FROM seq_1_to_1000",
        "INSERT INTO ties VALUES ('x', NULL, 1001)",
    )
    for key in (["a"], ["a", "b"], ["b", "a"]):
        table = read(mariadb.url, key, table="ties", batch_rows=37)
        assert sorted(table["n"].to_pylist()) == list(range(1, 1002)), key


def test_a_query_is_a_source_as_a_table_is(mariadb: MariaDB, run: Any) -> None:
    numbers(run, 500)
    query = "SELECT half, COUNT(*) AS n, '%s;:x' AS t FROM numbers GROUP BY half -- the end;"
    for size in (100, 100_000):
        table = read(mariadb.url, ["half"], query=query, batch_rows=size)
        assert sum(table["n"].to_pylist()) == 500
        assert sorted(table["half"].to_pylist()) == list(range(251))
        assert set(table["t"].to_pylist()) == {"%s;:x"}


def test_a_cursor_reads_what_is_behind_it_in_its_order(mariadb: MariaDB, run: Any) -> None:
    run(
        "CREATE TABLE events (id INT PRIMARY KEY, at DATETIME(6), KEY (at))",
        "INSERT INTO events SELECT seq, '2026-01-01' + INTERVAL (1000 - seq) DIV 10 SECOND"
        " FROM seq_1_to_1000",
        "INSERT INTO events VALUES (2000, NULL)",
    )
    position = datetime(2026, 1, 1, 0, 0, 50, tzinfo=UTC)
    since = Since("at", position)
    table = read(mariadb.url, ["id"], since, table="events", batch_rows=33)
    expected = [i for i in range(1, 1001) if (1000 - i) // 10 >= 50]
    assert sorted(table["id"].to_pylist()) == expected
    reader = opened(mariadb.url, ["id"], since, table="events", batch_rows=33)
    ends = [max(batch["at"].to_pylist()) for batch in reader]
    assert ends == sorted(ends)
    assert read(mariadb.url, table="events").num_rows == 1001


def test_rows_behind_a_cursor_whose_key_is_null_are_read(mariadb: MariaDB, run: Any) -> None:
    run(
        "CREATE TABLE loose (k INT, n INT)",
        "INSERT INTO loose VALUES (1, 1), (NULL, 2), (NULL, 3), (2, 4)",
    )
    table = read(mariadb.url, ["k"], Since("n", 2), table="loose", batch_rows=1)
    assert sorted(table["n"].to_pylist()) == [2, 3, 4]


def test_float_keys_find_their_row_again(mariadb: MariaDB, run: Any) -> None:
    run(
        "CREATE TABLE floats (f FLOAT, b BIT(9), n INT)",
        "INSERT INTO floats SELECT seq / 10, seq, seq FROM seq_1_to_100",
    )
    for key in ("f", "b"):
        table = read(mariadb.url, [key], table="floats", batch_rows=7)
        assert sorted(table["n"].to_pylist()) == list(range(1, 101)), key


def test_clock_is_the_servers_utc(mariadb: MariaDB, run: Any) -> None:
    run("CREATE TABLE t (id INT)")
    now = opened(mariadb.url, table="t").clock()
    assert now is not None
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


def restart(mariadb: MariaDB) -> threading.Thread:
    mariadb.kill()

    def later() -> None:
        time.sleep(1)
        mariadb.start()

    thread = threading.Thread(target=later)
    thread.start()
    return thread


def test_a_server_that_goes_and_comes_back_loses_and_doubles_no_row(
    mariadb: MariaDB, run: Any
) -> None:
    numbers(run, 20_000)
    batches = iter(opened(mariadb.url, table="numbers", batch_rows=1000))
    ids = [next(batches)["id"].to_pylist() for _ in range(3)]
    back = restart(mariadb)
    ids += [batch["id"].to_pylist() for batch in batches]
    back.join()
    assert [i for some in ids for i in some] == list(range(1, 20_001))


@pytest.fixture
def killer(mariadb: MariaDB) -> Iterator[list[int]]:
    """Kills every connection that runs a slow query, three times."""
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        with mariadb.connect(autocommit=True) as connection, connection.cursor() as cursor:
            while not done.is_set() and len(killed) < 3:
                cursor.execute(
                    "SELECT id FROM information_schema.processlist WHERE info LIKE '%sleep%'"
                    " AND info LIKE '%slow%' AND id <> CONNECTION_ID() AND time_ms > 30"
                )
                for (number,) in cursor.fetchall():
                    cursor.execute(f"KILL CONNECTION {number}")
                    killed.append(number)
                time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    done.set()
    thread.join()


def test_a_killed_connection_is_opened_again(mariadb: MariaDB, run: Any, killer: list[int]) -> None:
    numbers(run, 300, "slow")
    query = "SELECT id, SLEEP(0.001) AS s FROM slow"
    table = read(mariadb.url, ["id"], query=query, batch_rows=100)
    assert len(killer) == 3
    assert sorted(table["id"].to_pylist()) == list(range(1, 301))


def test_without_a_key_a_broken_read_says_what_to_set(mariadb: MariaDB, run: Any) -> None:
    run(
        "CREATE TABLE heap (n INT, t TEXT)",
        "INSERT INTO heap SELECT seq, REPEAT('x', 1000) FROM seq_1_to_60000",
    )
    batches = iter(opened(mariadb.url, table="heap"))
    next(batches)
    back = restart(mariadb)
    with pytest.raises(SourceError, match=r"connection was lost after 16384 rows") as raised:
        list(batches)
    back.join()
    assert raised.value.where == "contract.primary_key"
    assert read(mariadb.url, table="heap").num_rows == 60_000


PASSWORD = "s3cret%2Fw%40rd"


def refused(url: str, **settings: Any) -> SourceError:
    started = time.monotonic()
    with pytest.raises(SourceError) as raised:
        opened(url, **(settings or {"table": "numbers"}))
    assert time.monotonic() - started < 5, "what cannot heal is not tried again"
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    return raised.value


def test_what_cannot_heal_is_named_at_once(mariadb: MariaDB, run: Any) -> None:
    numbers(run, 3)
    run(
        "CREATE OR REPLACE USER reader@'%' IDENTIFIED BY 's3cret/w@rd'",
        "CREATE OR REPLACE USER nobody@'%' IDENTIFIED BY 's3cret/w@rd'",
        "GRANT SELECT ON test.* TO reader@'%'",
    )
    good = f"mysql://reader:{PASSWORD}@127.0.0.1:{mariadb.port}"
    assert read(f"{good}/test", table="numbers").num_rows == 3
    wrong = good.replace("reader", "nobody").replace("w%40rd", "word")
    assert "refuses user or password" in refused(f"{wrong}/test").what
    assert "database" in refused(f"{mariadb.url}s").what
    nobody = good.replace("reader", "nobody")
    assert "may not read" in refused(f"{nobody}/test").what
    assert refused(f"{good}/test", table="nubmers").close == "numbers"
    assert refused(f"{good}/test", table="numbers", partition_column="Id2").close == "id"
    assert refused(f"{good}/test", table="numbers", partition_column="haf").close == "half"
    assert "no such column" in refused(f"{good}/test", query="SELECT nope FROM numbers").what
    assert "understand" in refused(f"{good}/test", query="SELECT FROM WHERE").what
    assert (
        "one column name twice"
        in refused(f"{good}/test", query="SELECT a.id, b.id FROM numbers a, numbers b").what
    )
    unknown = f"mysql://reader:{PASSWORD}@no-such-host.invalid/test"
    assert "host is not known" in refused(unknown).what


def test_a_server_that_is_not_there_is_named_in_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(SourceError, match="connection was lost") as raised:
        opened(f"mysql://u:{PASSWORD}@127.0.0.1:1/d", table="t")
    assert time.monotonic() - started < 20
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM numbers",
        "SELECT 1; DROP TABLE numbers",
        "SELECT 1;;SELECT 2",
        "/* SELECT */ UPDATE numbers SET half = 1",
        "/*! DROP TABLE numbers */",
        "",
        "-- SELECT 1",
        "SELECT ';' /*!; DROP TABLE numbers */",
    ],
)
def test_only_one_select_is_run(tmp_path: Path, query: str) -> None:
    with pytest.raises((SourceError, ValueError), match=r"not one SELECT|at least 1"):
        opened(f"sqlite:///{tmp_path}/d.db", query=query)


def test_a_session_cannot_write(mariadb: MariaDB, run: Any) -> None:
    numbers(run, 3)
    run(
        "CREATE FUNCTION sly() RETURNS INT NOT DETERMINISTIC MODIFIES SQL DATA"
        " BEGIN DELETE FROM numbers; RETURN 1; END"
    )
    with pytest.raises(SourceError):
        read(mariadb.url, ["n"], query="SELECT sly() AS n")
    assert run("SELECT COUNT(*) FROM numbers") == ((3,),)


def test_sqlite_keeps_cells_of_another_type_than_declared(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INT, x, d DATE, b BLOB)")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?)",
            [
                (1, 7, 1.5, "2020-01-01", b"\x00"),
                (2, "seven", 2.5, 20200101, b"\x01"),
                (3, None, None, None, None),
            ],
        )
    connection.close()
    table = read(f"sqlite:///{path}", table="t", batch_rows=2)
    assert table["n"].to_pylist() == [7, None, None]
    assert table["x"].to_pylist() == [1.5, 2.5, None]
    assert table["d"].to_pylist() == ["2020-01-01", "20200101", None]
    assert table["b"].to_pylist() == [b"\x00", b"\x01", None]
    assert table[ORIGINAL].to_pylist() == [None, '{"n": "seven"}', None]


def test_sqlite_reads_tables_queries_and_cursors(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a TEXT, b REAL, at TEXT)")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?)",
            [(f"it's {i % 9}", i / 7, f"2026-01-{i % 28 + 1:02}") for i in range(500)],
        )
    connection.close()
    url = f"sqlite:///{path}"
    for key in ([], ["a"], ["a", "b"]):
        table = read(url, key, table="t", batch_rows=41)
        assert sorted(table["b"].to_pylist()) == [i / 7 for i in range(500)]
    table = read(url, ["b"], Since("at", "2026-01-20"), query="SELECT * FROM t;", batch_rows=41)
    assert table.num_rows == sum(i % 28 + 1 >= 20 for i in range(500))
    assert opened(url, table="t").clock() is not None


def test_a_missing_table_of_sqlite_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such table"):
        opened(f"sqlite:///{tmp_path}/d.db", table="nope")
    with pytest.raises(SourceError, match="no such database"):
        opened(f"sqlite:///{tmp_path}/no/folder/d.db", table="nope")


def test_a_driver_that_is_not_installed_is_named() -> None:
    with pytest.raises(SourceError, match="not installed") as raised:
        opened("mysql+mysqldb://u:s3cret@localhost/d", table="t")
    assert "pip install" in str(raised.value)
    with pytest.raises(SourceError, match="no database is called"):
        opened("nosuch://u:s3cret@localhost/d", table="t")
    assert "s3cret" not in str(raised.value)
