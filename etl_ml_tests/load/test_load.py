from __future__ import annotations

import os
import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from etl_ml.lake import Contents, Lake, Version
from etl_ml.load import load
from etl_ml.load.load_error import LoadError
from etl_ml.spec import Contract
from etl_ml.spec.destination import Destination
from etl_ml_tests.servers.mariadb import MariaDB
from etl_ml_tests.servers.mongodb import MongoDB

CONTRACT = Contract.model_validate(
    {
        "primary_key": ["id"],
        "columns": {
            "id": {"type": "integer", "nullable": False},
            "amount": {"type": "float"},
            "text": {"type": "string"},
            "day": {"type": "date"},
            "at": {"type": "datetime"},
            "flag": {"type": "boolean"},
        },
    }
)
ROWS = 1_000


def frame(rows: int = ROWS, text: str = "x") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": range(rows),
            "amount": [i / 3 if i % 7 else None for i in range(rows)],
            "text": [
                (f'{text} "{i}",\n\\' if i % 2 else "NULL") if i % 5 else None for i in range(rows)
            ],
            "day": [date(2020, 1, 1)] * rows,
            "at": [datetime(2020, 1, 1, 1, 2, 3, i, tzinfo=UTC) for i in range(rows)],
            "flag": [i % 2 == 0 for i in range(rows)],
            "_etl_ml_row": [f"{i:032x}-0" for i in range(rows)],
        }
    )


def version(lake: Lake, rows: pl.DataFrame) -> Version:
    return lake.write("p", "clean_data", Contents(rows.lazy()))


def destination(**keys: Any) -> Any:
    return TypeAdapter(Destination).validate_python(keys)


def taken(of: Version, **keys: Any) -> None:
    load(of, destination(**keys), contract=CONTRACT, primary_key=("id",))


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_a_second_load_of_a_version_changes_nothing_in_mariadb(
    lake: Lake, mariadb: MariaDB, mode: str
) -> None:
    rows = frame()
    of = version(lake, rows)
    for _ in range(2):
        taken(of, type="sql", url=mariadb.url, table=f"twice_{mode}", mode=mode)
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT id, amount, text, day, at, flag FROM twice_{mode} ORDER BY id")
        found = [(*row[:4], row[4].replace(tzinfo=UTC), bool(row[5])) for row in cursor]
        cursor.execute("SHOW TABLES LIKE '%etl\\_ml%'")
        assert not cursor.fetchall()
    assert found == rows.drop("_etl_ml_row").rows()


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_a_second_load_of_a_version_changes_nothing_in_mongodb(
    lake: Lake, mongodb: MongoDB, mode: str
) -> None:
    rows = frame()
    of = version(lake, rows)
    for _ in range(2):
        taken(of, type="mongodb", uri=mongodb.uri, database="d", collection=mode, mode=mode)
    with mongodb.client() as client:
        found = list(client.d[mode].find({}, {"_id": 0}).sort("id"))
        assert not [n for n in client.d.list_collection_names() if "etl_ml" in n]
    assert [row["amount"] for row in found] == rows["amount"].to_list()
    assert [row["text"] for row in found] == rows["text"].to_list()
    assert found[1]["at"] == datetime(2020, 1, 1, 1, 2, 3)  # milliseconds
    assert found[1]["day"] == datetime(2020, 1, 1)


def test_upsert_changes_the_rows_it_knows_and_adds_the_others(lake: Lake, tmp_path: Path) -> None:
    to = {"type": "sql", "url": f"sqlite:///{tmp_path}/d.db", "table": "t", "mode": "upsert"}
    taken(version(lake, frame(10, "old")), **to)
    taken(version(lake, frame(20, "new")), **to)
    with sqlite3.connect(tmp_path / "d.db") as database:
        found = database.execute("SELECT text FROM t ORDER BY id").fetchall()
    assert [text for (text,) in found] == frame(20, "new")["text"].to_list()


def test_a_table_with_other_columns_is_refused_and_left_as_it_is(
    lake: Lake, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "d.db") as database:
        database.execute("CREATE TABLE t (id INTEGER, other TEXT)")
        database.execute("INSERT INTO t VALUES (1, 'mine')")
    with pytest.raises(LoadError, match=r"lacks amount.* has other"):
        taken(version(lake, frame()), type="sql", url=f"sqlite:///{tmp_path}/d.db", table="t")
    with sqlite3.connect(tmp_path / "d.db") as database:
        assert database.execute("SELECT * FROM t").fetchall() == [(1, "mine")]


def test_no_password_is_told(lake: Lake, mariadb: MariaDB) -> None:
    url = mariadb.url.replace("root@", "nobody:hunter2@")
    with pytest.raises(LoadError, match="the password is wrong") as refused:
        taken(version(lake, frame()), type="sql", url=url, table="t")
    assert "hunter2" not in str(refused.value)


def test_a_file_comes_back_as_it_was(lake: Lake, tmp_path: Path) -> None:
    rows = frame()
    taken(version(lake, rows), type="file", path=str(tmp_path / "out"))
    assert pl.read_parquet(tmp_path / "out" / "rows.parquet").sort("id").equals(rows)
    assert os.listdir(tmp_path / "out") == ["rows.parquet"]


@pytest.mark.parametrize(
    "keys",
    [
        {"type": "dynamodb", "table": "t", "mode": "replace"},
        {"type": "dynamodb", "table": "t", "what": "model"},
        {"type": "sql", "url": "sqlite:///x", "table": "t", "what": "model"},
        {"type": "file", "path": "x", "mode": "upsert"},
    ],
)
def test_what_a_destination_cannot_do_is_refused_at_once(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        destination(**keys)
