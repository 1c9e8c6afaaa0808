from __future__ import annotations

import json
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
import yaml

from etl_ml_tests.project import Project, loans
from etl_ml_tests.servers.mariadb import MariaDB
from etl_ml_tests.servers.mongodb import MongoDB

RNG = np.random.default_rng(7)


def wide() -> pl.DataFrame:
    """300 columns, most of them noise, for 400 rows."""
    noise = {f"gene {n}": RNG.normal(size=400).round(4) for n in range(300)}
    label = np.where(noise["gene 3"] + noise["gene 5"] > 0, "tumour", "healthy")
    return pl.DataFrame({**noise, "diagnosis": label})


def tall() -> pl.DataFrame:
    """120,000 rows, more than the sample has."""
    size = 120_000
    x, region = RNG.normal(size=size), RNG.integers(0, 200, size)
    price = 100 + 20 * x + region * 0.3 + RNG.normal(size=size)
    return pl.DataFrame(
        {"id": np.arange(size), "x": x, "region": [f"R{r:03}" for r in region], "price": price}
    )


def texts() -> pl.DataFrame:
    """Prose, categories, codes with leading zeros, e-mail addresses."""
    topics = np.array(["billing", "delivery", "other"])
    topic = topics[RNG.integers(0, 3, 900)]
    words = ["please help me with " + t + " because of reasons " * 4 for t in topic]
    return pl.DataFrame(
        {
            "Ticket No": [f"T-{n:06}" for n in range(900)],
            "text": [f"{w} number {n}" for n, w in enumerate(words)],
            "e-mail": [f"user{n}@example.org" for n in range(900)],
            "zip": [f"0{n % 9000:04}" for n in range(900)],
            "channel": np.where(RNG.random(900) < 0.8, topic, "mail"),
            "team": topic,
        }
    )


def dirty() -> pl.DataFrame:
    """Words for null, spaces, some letters among numbers, rows without a target, a rare label."""
    amount = [f" {v:.2f} " if RNG.random() > 0.1 else "N/A" for v in RNG.lognormal(3, 1, 800)]
    amount[17] = "twelve"
    score = RNG.normal(size=800)
    label = np.where(score > 0.3, "Yes", "No ").astype(object)
    label[:30] = ""
    label[30:33] = "Maybe"
    return pl.DataFrame(
        {
            "Unnamed: 0": range(800),
            "amount (€)": amount,
            "score": [f"{v:.4f}" if RNG.random() > 0.05 else "NULL" for v in score],
            "empty": ["-"] * 800,
            "constant": ["x"] * 800,
            "churned?": label,
        }
    )


def stamped() -> pl.DataFrame:
    """Readings in time, and a count to predict."""
    start = datetime(2026, 1, 1)
    hours = np.arange(2000)
    load = 50 + 20 * np.sin(hours / 24 * 2 * np.pi) + RNG.normal(size=2000) * 3
    return pl.DataFrame(
        {
            "at": [start + timedelta(hours=int(h)) for h in hours],
            "hour": hours % 24,
            "temperature": 20 + RNG.normal(size=2000),
            "load": load.round(2),
        }
    )


@pytest.mark.parametrize(
    ("make", "target", "task"),
    [
        (wide, "diagnosis", "classes"),
        (tall, "price", "a number"),
        (texts, "team", "classes"),
        (dirty, "churned?", "classes"),
        (stamped, "load", "a number"),
    ],
)
def test_any_table_becomes_a_deployed_model_without_an_edit(
    project: Project, make: object, target: str, task: str
) -> None:
    assert callable(make)
    name = getattr(make, "__name__", "")
    make().write_csv(project.root / f"{name}.csv")
    done = project.command("etl-ml", "init", f"{name}.csv", "--target", target)
    assert done.returncode == 0, done.stderr
    assert f"predicts {target}, {task}" in done.stdout
    assert "One edit is needed" not in done.stdout
    file = project.package / "defs" / name / "defs.yaml"
    text = file.read_text().replace("[logistic_regression, random_forest, lightgbm]", "[lightgbm]")
    file.write_text(text.replace("[ridge, random_forest, lightgbm]", "[lightgbm]"))
    run = project.run(project.dagster_materialize(f"group:{name}"))
    assert run.returncode == 0, run.stderr[-3000:]
    report = project.lake.read(name, "deployed_model", "deployment_report.json")
    assert report["champion"] is True


def test_dg_launch_takes_what_init_wrote(project: Project) -> None:
    loans().write_parquet(project.root / "loans.parquet")
    command = ("etl-ml", "init", "loans.parquet", "--target", "defaulted", "--name", "credit")
    done = project.command(*command)
    assert done.returncode == 0, done.stderr
    checked = project.command("dg", "check", "defs")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    again = project.command(*command)
    assert again.returncode == 1
    assert "there is a pipeline 'credit' already" in again.stderr


def test_what_cannot_be_read_writes_nothing(project: Project) -> None:
    for arguments in (("missing.csv",), ("ftp://host/x.csv",), ("sqlite:///x.db",)):
        done = project.command("etl-ml", "init", *arguments, "--target", "y")
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
    assert list((project.package / "defs").iterdir()) == []


def test_outside_of_a_project_it_says_so(tmp_path: Path, project: Project) -> None:
    loans(10).write_csv(tmp_path / "x.csv")
    script = project.script("etl-ml", "init", "x.csv", "--target", "defaulted")
    done = subprocess.run(script, cwd="/", capture_output=True, text=True, check=False)
    assert "this folder is in no Dagster project" in done.stderr


def test_a_collection_becomes_a_pipeline_and_its_password_stays_where_it_was(
    project: Project, mongodb: MongoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mongodb.client() as client:
        rows = loans(300).with_columns(pl.col("opened").cast(pl.Datetime)).to_dicts()
        client["shop"]["orders"].insert_many([{**row, "more": {"n": row["age"]}} for row in rows])
    monkeypatch.setenv("SHOP", mongodb.uri)
    done = project.command(
        "etl-ml", "init", mongodb.uri, "--table", "shop.orders", "--target", "defaulted"
    )
    assert done.returncode == 0, done.stderr
    written = yaml.safe_load((project.package / "defs" / "orders" / "defs.yaml").read_text())
    columns = written["attributes"]["contract"]["columns"]
    assert {"_id", "more.n", "age"} <= set(columns)
    assert written["attributes"]["contract"]["primary_key"] == ["_id"]
    run = project.run(project.dagster_materialize("group:orders"))
    assert run.returncode == 0, run.stderr[-3000:]


def test_a_table_becomes_a_pipeline_with_the_key_that_it_has(
    project: Project, mariadb: MariaDB
) -> None:
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS credits")
        cursor.execute(
            "CREATE TABLE credits (number INT PRIMARY KEY, age INT, income DOUBLE, "
            "opened DATE, defaulted TINYINT)"
        )
        rows = loans(300).with_row_index("number").drop("country").rows()
        cursor.executemany("INSERT INTO credits VALUES (%s, %s, %s, %s, %s)", rows)
        connection.commit()
    done = project.command(
        *("etl-ml", "init", mariadb.url, "--table", "credits", "--target", "defaulted"),
        CREDITS_URL=mariadb.url,
    )
    assert done.returncode == 0, done.stderr
    text = (project.package / "defs" / "credits" / "defs.yaml").read_text()
    assert "root@" not in text
    written = yaml.safe_load(text)["attributes"]
    assert written["source"]["url"] == "{{ env.CREDITS_URL }}"
    assert written["contract"]["primary_key"] == ["number"]
    run = project.run(project.dagster_materialize("group:credits"))
    assert run.returncode == 1
    assert "the environment variable CREDITS_URL is not set" in run.stderr


def test_the_schema_takes_what_init_wrote_and_refuses_what_the_parser_refuses(
    project: Project,
) -> None:
    loans().write_csv(project.root / "loans.csv")
    assert project.command("etl-ml", "init", "loans.csv", "--target", "defaulted").returncode == 0
    schema = json.loads(project.command("etl-ml", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    file = project.package / "defs" / "loans" / "defs.yaml"
    document = yaml.safe_load(file.read_text())
    jsonschema.validate(document, schema)
    header = file.read_text().splitlines()[0].partition("$schema=")[2]
    assert json.loads((file.parent / header).resolve().read_text()) == schema
    document["attributes"]["split"] = {"stratgy": "time"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
