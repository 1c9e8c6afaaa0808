"""`etl-ml quarantine`, as a person uses it."""

from __future__ import annotations

import json

import polars as pl
import pytest

from etl_ml_tests.project import Project, attributes, loans


def with_bad_rows(rows: int = 20) -> pl.DataFrame:
    """Loans of which some are of people who are 101 to 110 years old."""
    frame = loans()
    age = pl.when(pl.int_range(pl.len()) < rows).then(101 + pl.int_range(pl.len()) % 10)
    return frame.with_columns(age.otherwise(pl.col("age")).alias("age"))


@pytest.fixture
def rejected(project: Project) -> Project:
    project.add(attributes(), with_bad_rows())
    assert project.materialize("raw_data", "validated_data").success
    return project


def test_it_says_how_many_rows_and_why_with_examples(rejected: Project) -> None:
    done = rejected.command("etl-ml", "quarantine", "loans")
    assert done.returncode == 0, done.stderr
    for told in ("20 of 600 rows read (3.3%)", "age: max", "101, 102", "--all"):
        assert told in done.stdout
    document = json.loads(rejected.command("etl-ml", "quarantine", "loans", "--json").stdout)
    assert document["reasons"][0]["rows"] == document["quarantined_rows"] == 20


def test_a_replay_after_the_contract_was_mended_takes_the_rows_in(rejected: Project) -> None:
    done = rejected.command("etl-ml", "quarantine", "loans", "--all")
    assert "20 rejected rows have not passed since" in done.stdout
    mended = attributes()
    mended["contract"]["columns"]["age"]["max"] = 105
    rejected.add(mended, with_bad_rows())
    done = rejected.command("etl-ml", "quarantine", "loans", "--replay")
    assert done.returncode == 0, done.stderr
    assert "10 of 20 rows pass now; 10 do not." in " ".join(done.stdout.split())
    assert """key:"loans/clean_data"+""" in done.stdout
    assert rejected.lake.table("loans", "validated_data").rows == 590
    assert rejected.lake.table("loans", "quarantined_data").rows == 10
    again = rejected.command("etl-ml", "quarantine", "loans", "--replay")
    assert "0 of 10 rows pass now" in " ".join(again.stdout.split())
    assert rejected.lake.table("loans", "validated_data").rows == 590


def test_what_is_not_there_is_said(project: Project) -> None:
    project.add(attributes(), loans())
    missing = project.command("etl-ml", "quarantine", "loans")
    assert missing.returncode == 1
    assert "no pipeline 'loans'" in missing.stderr
    assert project.materialize("raw_data").success
    missing = project.command("etl-ml", "quarantine", "loans")
    assert missing.returncode == 1
    assert "materialize loans/quarantined_data" in missing.stderr
    assert project.materialize("validated_data").success
    assert "0 of 600 rows" in project.command("etl-ml", "quarantine", "loans").stdout
    replay = project.command("etl-ml", "quarantine", "loans", "--replay")
    assert (replay.returncode, "no rejected row is outstanding" in replay.stdout) == (0, True)
    both = project.command("etl-ml", "quarantine", "loans", "--replay", "--all")
    assert both.returncode == 2
