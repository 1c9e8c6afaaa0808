from __future__ import annotations

import polars as pl

from etl_ml_tests.project import Project, attributes, failure_message, loans


def test_clean_rows_are_scored_in_the_run_that_deploys(project: Project) -> None:
    project.add(attributes(predictions={}))
    result = project.materialize()
    assert result.success, failure_message(result)
    version = project.lake.open("loans", "predictions")
    assert version.table.rows == 600
    assert dict(version.manifest.upstream) == {
        "clean_data": "0000000001",
        "trained_model": "0000000001",
    }


def test_a_source_of_its_own_is_scored_also_where_nothing_is_deployed(project: Project) -> None:
    home = project.add(
        attributes(
            predictions={"input": {"type": "file", "path": "new.csv"}},
            contract={"columns": _with_key(), "primary_key": ["id"]},
        ),
        loans().with_row_index("id"),
    )
    new = loans(20, seed=9).drop("defaulted").with_row_index("id", offset=1000)
    new.with_columns(age=pl.when(pl.col("id") == 1003).then(5).otherwise("age")).write_csv(
        home / "new.csv"
    )
    assert project.materialize().success
    # The second model misses its gate: the champion that stays scores.
    strict = attributes(
        predictions={"input": {"type": "file", "path": "new.csv"}},
        contract={"columns": _with_key(), "primary_key": ["id"]},
        evaluation={"gates": {"f1": 1.0}},
    )
    project.add(strict, loans(seed=1).with_row_index("id"))
    result = project.materialize()
    assert result.success, failure_message(result)
    assert project.lake.versions("loans", "predictions") == ["0000000001", "0000000002"]
    found = project.lake.table("loans", "predictions").to_polars().sort("id")
    assert found["id"].cast(pl.Int64).to_list() == list(range(1000, 1020))
    assert set(found["model_version"]) == {"0000000001"}
    assert found.filter(pl.col("reasons").is_not_null())["reasons"].to_list() == ["age: min"]


def test_without_a_model_the_run_says_what_to_do(project: Project) -> None:
    project.add(attributes(predictions={}, evaluation={"gates": {"f1": 1.0}}))
    result = project.materialize()
    assert not result.success
    assert "there is no model to score with" in failure_message(result)


def _with_key() -> dict[str, object]:
    columns = attributes()["contract"]["columns"]
    return {"id": {"type": "integer"}, **columns}
