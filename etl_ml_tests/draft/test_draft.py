from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from etl_ml.draft import Sample, draft
from etl_ml.draft.document import document
from etl_ml.draft.draft import UnusableTarget
from etl_ml.spec import InvalidPipeline, parse
from etl_ml_tests.project import loans


def sample(rows: pl.DataFrame, **more: Any) -> Sample:
    texts = rows.select(pl.all().cast(pl.String))
    return Sample(texts, {"type": "file", "path": "rows.csv"}, "rows", **more)


def test_the_document_is_the_pipeline_that_was_tried() -> None:
    made = draft(sample(loans()), "defaulted")
    text = document(made)
    written = yaml.safe_load(text)
    expected = {**made.attributes, "training": written["attributes"]["training"]}
    given = {k: v for k, v in written["attributes"].items() if k in expected}
    assert parse(given, file="x").model_dump() == parse(expected, file="x").model_dump()
    assert made.problems == ()


def test_names_and_values_of_any_kind_survive_the_document() -> None:
    rows = loans().rename({"age": "a: #b", "income": "yes", "country": "ü 'q' \"d\""})
    rows = rows.with_columns(pl.Series("1", range(600)), pl.Series("null", [3, 7] * 300))
    text = document(draft(sample(rows), "defaulted"))
    columns = yaml.safe_load(text)["attributes"]["contract"]["columns"]
    assert list(columns) == rows.columns


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        ([0, 1], None),
        ([1, 2], 2),  # the rarer one
        (["no", "yes"], "yes"),
        (["benign", "malignant"], "malignant"),
        (["<=50K", ">50K"], ">50K"),
        ([-1, 1], 1),
    ],
)
def test_the_positive_class(labels: list[Any], positive: Any) -> None:
    rows = loans().with_columns(
        pl.when(pl.int_range(600) % 3 == 0)
        .then(pl.lit(labels[1]))
        .otherwise(pl.lit(labels[0]))
        .alias("defaulted")
    )
    made = draft(sample(rows), "defaulted")
    assert made.attributes["target"].get("positive") == positive
    assert set(made.pipeline.contract.columns["defaulted"].allowed or ()) == set(labels)


def test_many_numbers_are_a_regression() -> None:
    made = draft(sample(loans()), "income")
    assert made.attributes["target"] == {"column": "income", "task": "regression"}


def test_rare_labels_are_set_aside_by_name() -> None:
    label = pl.Series("kind", [*["a"] * 300, *["b"] * 295, *["c"] * 5])
    made = draft(sample(loans().with_columns(label)), "kind")
    assert made.target.rare == {"c": 5}
    assert made.pipeline.contract.columns["kind"].allowed == ("a", "b")
    assert "c: 5 rows" in document(made)


def test_the_time_column_splits_and_is_no_feature() -> None:
    made = draft(sample(loans()), "defaulted")
    assert made.attributes["split"] == {"strategy": "time", "column": "opened"}
    assert "opened" not in made.pipeline.features_of()


def test_a_split_that_fails_on_the_sample_is_replaced_and_told() -> None:
    rows = loans().sort("opened")
    late = (pl.int_range(600) >= 400).cast(pl.Int64)
    rows = rows.with_columns(late.alias("defaulted"))  # all of one class comes last
    made = draft(sample(rows), "defaulted")
    assert made.attributes.get("split", {}).get("strategy") != "time"
    assert any("split was chosen" in note for note in made.notes)


def test_a_column_that_gives_the_target_away_is_no_feature() -> None:
    rows = loans().with_columns((pl.col("defaulted") * 3 + 1).alias("copy"))
    made = draft(sample(rows), "defaulted")
    assert "copy" in made.attributes["features"]["exclude"]
    assert "gives the target away" in document(made)


def test_rows_without_a_target_are_counted_before_they_stop_a_run() -> None:
    rows = loans().with_columns(
        pl.when(pl.int_range(600) % 5 > 0).then("defaulted").alias("defaulted")
    )
    made = draft(sample(rows), "defaulted")
    assert made.pipeline.validation.max_quarantined == pytest.approx(0.3)


def test_few_rows_get_a_split_that_bears_them() -> None:
    made = draft(sample(loans(120)), "defaulted")
    assert made.problems == ()
    assert made.attributes["split"]["strategy"] in ("stratified", "time")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (pl.Series("y", ["only"] * 600), "one value only"),
        (pl.Series("y", [f"v{n}" for n in range(600)]), "too many for classes"),
        (pl.Series("y", np.arange(600)).cast(pl.Int32).cast(pl.Date), "is a date"),
    ],
)
def test_what_cannot_be_learned_asks_for_one_edit(target: pl.Series, told: str) -> None:
    made = draft(sample(loans().with_columns(target)), "y")
    assert told in made.problems[0]
    assert "To be decided before it can run" in document(made)


def test_a_target_that_is_not_there_is_named_with_its_nearest() -> None:
    with pytest.raises(UnusableTarget) as error:
        draft(sample(loans()), "defaultd")
    assert "nearest   'defaulted'" in str(error.value)
    with pytest.raises(UnusableTarget, match="it has no value"):
        draft(sample(loans().with_columns(y=pl.lit(""))), "y")


def test_a_name_that_no_pipeline_can_have_is_refused() -> None:
    with pytest.raises(InvalidPipeline, match="name"):
        draft(sample(loans()), "defaulted", name="My Pipeline")


def test_paths_are_relative_within_a_project_only(tmp_path: Path) -> None:
    from etl_ml.draft import read_sample

    (tmp_path / "project" / "defs").mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").touch()
    for place in (tmp_path / "project" / "rows.csv", tmp_path / "rows.csv"):
        loans(20).write_csv(place)
        found = read_sample(str(place), beside=tmp_path / "project" / "defs" / "rows")
        inside = place.parent != tmp_path
        assert found.source["path"] == ("../../rows.csv" if inside else str(place))
