from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from etl_ml_tests.project import Project, attributes, loans
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.mariadb import MariaDB
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.s3 import S3


def examined(project: Project, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    done = project.command("etl-ml", "doctor", "--json", *arguments, **environment)
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    return done.returncode, {f"{entry['place']}/{entry['what']}": entry for entry in found}


def test_a_sound_project_is_told_so(project: Project, tmp_path: Path) -> None:
    project.add(
        attributes(
            load=[{"type": "file", "path": str(tmp_path / "out")}],
            deployment={"targets": [{"type": "file", "url": str(tmp_path / "models")}]},
        )
    )
    code, found = examined(project)
    assert code == 0
    assert {entry["state"] for entry in found.values()} == {"ok"}
    assert "600 rows read" in found["loans/source"]["told"]
    assert {"loans/destination file", "loans/target file", "project/lake"} <= set(found)
    assert not (tmp_path / "out").exists()  # asked, not written


def test_every_server_is_asked(
    project: Project,
    mongodb: MongoDB,
    mariadb: MariaDB,
    s3: S3,
    dynamodb: DynamoDB,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = s3.bucket()
    load = [
        {"type": "mongodb", "uri": mongodb.uri, "database": "d", "collection": "c"},
        {"type": "sql", "url": mariadb.url, "table": "t"},
        {"type": "file", "path": f"s3://{bucket}/rows"},
        {
            "type": "dynamodb",
            "table": "missing",
            "endpoint": dynamodb.endpoint,
            "region": "eu-west-1",
        },
    ]
    targets = [{"type": "s3", "url": f"s3://{bucket}/models"}]
    project.add(attributes(load=load, deployment={"targets": targets}))
    code, found = examined(project)
    states = {name: entry["state"] for name, entry in found.items()}
    assert states["loans/destination mongodb"] == "ok", found
    assert states["loans/destination sql"] == "ok", found
    assert states["loans/destination file"] == "ok", found
    assert states["loans/target s3"] == "ok", found
    assert states["loans/destination dynamodb"] == "failed"
    assert (
        "no table" in found["loans/destination dynamodb"]["told"]
        or "missing" in (found["loans/destination dynamodb"]["told"])
    )
    assert code == 1
    keys = s3.client().list_objects_v2(Bucket=bucket, Prefix="rows").get("Contents", [])
    assert keys == []


@pytest.mark.parametrize(
    ("sections", "place", "told"),
    [
        ({"source": {"type": "file", "path": "none.csv"}}, "loans/source", "none.csv"),
        (
            {"load": [{"type": "sql", "url": "mysql://u:secret@127.0.0.1:1/d", "table": "t"}]},
            "loans/destination sql",
            "cannot be reached",
        ),
        (
            {"deployment": {"targets": ["nowhere.to:Be"]}},
            "loans/target Be",
            "cannot be imported",
        ),
        ({"split": {"strategy": "tme"}}, "loans/defs.yaml", "split.strategy"),
        (
            {"source": {"type": "file", "path": "{{ env.NOT_SET }}"}},
            "loans/defs.yaml",
            "NOT_SET is not set",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    project: Project, sections: dict[str, Any], place: str, told: str
) -> None:
    home = project.add(attributes(**sections))
    (home / "none.csv").unlink(missing_ok=True)
    code, found = examined(project)
    assert code == 1
    assert found[place]["state"] == "failed"
    assert told in found[place]["told"]
    assert "secret" not in json.dumps(found)


def test_a_pipeline_that_is_not_there_is_named(project: Project) -> None:
    project.add()
    code, found = examined(project, "lones")
    assert code == 1
    assert "no such pipeline" in found["lones/defs.yaml"]["told"]


def test_rows_that_came_later_than_the_lag_are_counted(project: Project) -> None:
    file = project.root / "shop.db"
    rows = loans(300).with_row_index("id").rows()
    with sqlite3.connect(file) as database:
        database.execute(
            "CREATE TABLE loans (id INTEGER PRIMARY KEY, age INTEGER, income REAL, country TEXT, "
            "opened TEXT, defaulted INTEGER)"
        )
        database.executemany(
            "INSERT INTO loans VALUES (?, ?, ?, ?, ?, ?)",
            [(*row[:4], str(row[4]), row[5]) for row in rows],
        )
    columns = {"id": {"type": "integer"}, **attributes()["contract"]["columns"]}
    source = {
        "type": "sql",
        "url": f"sqlite:///{file}",
        "table": "loans",
        "incremental": {"cursor": "id"},
    }
    project.add(attributes(source=source, contract={"columns": columns, "primary_key": ["id"]}))
    assert project.materialize("raw_data").success
    code, found = examined(project, "--reconcile")
    assert (code, found["loans/reconcile"]["state"]) == (0, "ok")
    with sqlite3.connect(file) as database:  # behind the cursor, and after it
        for number in (-3, -2, 5000):
            database.execute(
                "INSERT INTO loans SELECT ?, age, income, country, opened, defaulted "
                "FROM loans WHERE id = 7",
                (number,),
            )
    code, found = examined(project, "--reconcile")
    assert (code, found["loans/reconcile"]["state"]) == (1, "failed")
    assert "2 rows of the source are behind the cursor" in found["loans/reconcile"]["told"]
    assert "etl-ml refresh loans" in found["loans/reconcile"]["told"]
