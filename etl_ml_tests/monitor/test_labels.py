"""Labels that come later, against scikit-learn on rows that were joined by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sklearn

from etl_ml.deploy.registry import NoChampion
from etl_ml.lake import Contents, Lake, MissingVersion, open_lake
from etl_ml.monitor.labels import UnusableLabels, add_labels
from etl_ml_tests.project import Project, attributes, loans

NEW = loans(400, seed=9).with_row_index("id", offset=10_000)
LABELS = NEW.select("id", "defaulted")


def keyed(**sections: Any) -> dict[str, Any]:
    columns = {"id": {"type": "integer"}, **attributes()["contract"]["columns"]}
    return attributes(contract={"columns": columns, "primary_key": ["id"]}, **sections)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose champion has scored `NEW`, by the command that people use."""
    project = Project(tmp_path_factory.mktemp("labels") / "project")
    new = {"input": {"type": "file", "path": "new.csv"}}
    home = project.add(keyed(predictions=new), loans(900).with_row_index("id"))
    NEW.drop("defaulted").write_csv(home / "new.csv")
    assert project.materialize().success
    return project


@pytest.fixture
def own(scored: Project, tmp_path: Path) -> Lake:
    """A copy of its lake."""
    shutil.copytree(scored.root / ".etl_ml" / "lake", tmp_path / "copy")
    return open_lake(tmp_path / "copy")


def test_metrics_are_those_of_scikit_learn(own: Lake) -> None:
    taken = add_labels(own, "loans", LABELS)
    assert (taken.rows, taken.new, taken.unknown, taken.unreadable) == (400, 400, 0, 0)
    assert taken.report is not None
    found = taken.report["versions"]["0000000001"]
    rows = own.table("loans", "predictions").to_polars()
    rows = rows.with_columns(pl.col("id").cast(pl.UInt32)).join(LABELS, on="id")
    truth, said = rows["defaulted"].to_numpy(), rows["prediction"].to_numpy()
    probability = rows["probability_1"].to_numpy()
    value = {name: measured["value"] for name, measured in found["metrics"].items()}
    assert found["rows"] == len(rows) == 400
    assert value["f1"] == pytest.approx(sklearn.f1_score(truth, said))
    assert value["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, said))
    assert value["roc_auc"] == pytest.approx(sklearn.roc_auc_score(truth, probability))
    assert value["brier"] == pytest.approx(sklearn.brier_score_loss(truth, probability))
    assert found["metrics"]["f1"]["low"] < value["f1"] < found["metrics"]["f1"]["high"]
    evaluated = own.read("loans", "model_evaluation", "evaluation_report.json")
    assert found["test"] == evaluated["metrics"]["test"]
    assert found["worse"] is False
    assert own.read("loans", "performance", "performance_report.json") == taken.report


@pytest.mark.parametrize(
    "form",
    [
        LABELS.cast(pl.String),
        LABELS.with_columns(pl.format(" {}.0 ", "defaulted").alias("defaulted")),
        LABELS.cast({"defaulted": pl.Float64, "id": pl.Int64}),
        LABELS.with_columns(other=pl.lit("x")).sample(fraction=1, shuffle=True, seed=1),
        pl.concat([LABELS, LABELS]),
    ],
)
def test_labels_come_in_any_form(own: Lake, form: pl.DataFrame) -> None:
    expected = add_labels(own, "loans", LABELS).report
    again = add_labels(own, "loans", form)
    assert (again.new, again.unknown, again.unreadable, again.contradictory) == (0, 0, 0, 0)
    assert again.report == expected


def test_rows_may_be_known_by_their_identity(own: Lake) -> None:
    rows = own.table("loans", "predictions").to_polars()
    rows = rows.with_columns(pl.col("id").cast(pl.UInt32)).join(LABELS, on="id")
    taken = add_labels(own, "loans", rows.select("_etl_ml_row", "defaulted"))
    assert taken.new == 400
    assert taken.report == add_labels(own, "loans", LABELS).report


def test_what_cannot_be_used_is_counted_and_the_rest_is(own: Lake) -> None:
    odd = pl.DataFrame(
        {
            "id": [1, 10_000, 10_001, 10_002, 10_003, 10_003, None],
            "defaulted": ["1", "maybe", "2", None, "0", "1", "1"],
        }
    )
    given = pl.concat([odd, LABELS[10:].cast({"id": pl.Int64, "defaulted": pl.String})])
    taken = add_labels(own, "loans", given)
    assert taken.new == 390
    assert taken.unknown == 1  # nobody predicted row 1
    assert taken.unreadable == 4
    assert taken.contradictory == 2


def test_labels_come_in_parts_and_a_later_one_corrects_an_earlier_one(own: Lake) -> None:
    whole = add_labels(own, "loans", LABELS).report
    wrong = LABELS.with_columns(defaulted=1 - pl.col("defaulted"))
    assert add_labels(own, "loans", wrong[:100]).new == 100
    other = own.read("loans", "performance", "performance_report.json")
    assert other["versions"] != whole["versions"]  # type: ignore[index]
    last = add_labels(own, "loans", LABELS[:100])
    assert last.new == 100
    assert last.report == whole
    assert len(own.versions("loans", "performance")) == 3


def test_what_a_forgotten_version_of_predictions_told_stays(own: Lake) -> None:
    before = add_labels(own, "loans", LABELS).report
    table = own.table("loans", "predictions").to_polars()
    later = table[:50].with_columns(_etl_ml_row=pl.format("n{}", pl.int_range(50)))
    later = later.with_columns(id=pl.int_range(20_000, 20_050).cast(later.schema["id"]))
    own.write("loans", "predictions", Contents(later.lazy()))
    own.backend.delete("loans/files/predictions/0000000001/manifest.json")
    new = pl.DataFrame({"id": range(20_000, 20_050), "defaulted": [0, 1] * 25})
    after = add_labels(own, "loans", new).report
    assert after is not None
    assert before is not None
    assert after["versions"] == before["versions"]  # 400 rows tell more than 50
    assert [period["rows"] for period in after["periods"]] == [400]


def test_periods_are_told_apart_by_when_a_row_was_predicted(own: Lake) -> None:
    table = own.table("loans", "predictions").to_polars()
    own.backend.delete("loans/files/predictions/0000000001/manifest.json")
    for day, rows in (("2026-01-30", table[:150]), ("2026-02-02", table[150:])):
        version = own.write("loans", "predictions", Contents(rows.lazy()))
        redate(own, version.version, day)
    # Scored again by the same model a month later: its first prediction is what counts.
    redate(own, own.write("loans", "predictions", Contents(table.lazy())).version, "2026-03-02")
    for by, begins in (
        ("day", ["2026-01-30", "2026-02-02"]),
        ("week", ["2026-01-26", "2026-02-02"]),
        ("month", ["2026-01-01", "2026-02-01"]),
    ):
        report = add_labels(own, "loans", LABELS, by=by).report  # type: ignore[arg-type]
        assert report is not None
        assert [period["begin"] for period in report["periods"]] == begins
        assert [period["rows"] for period in report["periods"]] == [150, 250]


def redate(lake: Lake, version: str, day: str) -> None:
    """Say that a version of predictions was made on another day."""
    manifest = lake.open("loans", "predictions", version).manifest
    redated = replace(manifest, created_at=f"{day}T12:00:00+00:00")
    lake.backend.put(f"{manifest.folder}/manifest.json", redated.dump())


def test_predictions_that_have_become_worse_are_said_to_be(own: Lake) -> None:
    wrong = LABELS.with_columns(defaulted=1 - pl.col("defaulted"))
    report = add_labels(own, "loans", wrong).report
    assert report is not None
    assert report["versions"]["0000000001"]["worse"] is True


def test_a_handful_of_labels_says_nothing(own: Lake) -> None:
    report = add_labels(own, "loans", LABELS[:29]).report
    assert report is not None
    assert report["versions"]["0000000001"]["metrics"] == {}
    assert report["versions"]["0000000001"]["worse"] is None


def test_rows_that_a_model_was_trained_on_do_not_flatter_it(own: Lake) -> None:
    arrays = own.open("loans", "transformed_arrays")
    trained = arrays.read("train_rows.npy").tolist()
    table = own.table("loans", "predictions").to_polars()
    seen = table[:100].with_columns(_etl_ml_row=pl.Series(trained[:100]))
    own.write("loans", "predictions", Contents(seen.lazy()))
    given = pl.DataFrame({"_etl_ml_row": trained[:100], "defaulted": np.ones(100, int)})
    rows = table.select("_etl_ml_row").with_columns(defaulted=pl.lit(0))
    report = add_labels(own, "loans", pl.concat([given, rows], how="vertical_relaxed")).report
    assert report is not None
    found = report["versions"]["0000000001"]
    assert (found["rows"], found["trained_on"]) == (400, 100)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (LABELS.rename({"defaulted": "label"}), "no column 'defaulted', which is the model's"),
        (LABELS.drop("id"), "no column 'id': it cannot be told which rows they are of"),
        (LABELS.with_columns(defaulted=pl.lit("x")), "none of the 400 labels is one of 0, 1"),
        (LABELS.clear(), "none of the 0 labels"),
    ],
)
def test_labels_of_nothing_are_refused(own: Lake, labels: pl.DataFrame, told: str) -> None:
    with pytest.raises(UnusableLabels, match=told):
        add_labels(own, "loans", labels)
    assert own.versions("loans", "performance") == []


def test_without_a_model_or_predictions_it_is_said_what_to_do(own: Lake, lake: Lake) -> None:
    with pytest.raises(NoChampion, match="no model whose predictions"):
        add_labels(lake, "loans", LABELS)
    own.backend.delete("loans/files/predictions/0000000001/manifest.json")
    with pytest.raises(MissingVersion, match="no version of predictions"):
        add_labels(own, "loans", LABELS)


def test_numbers_are_judged_too(project: Project) -> None:
    pipeline = attributes(
        target={"column": "income", "task": "regression"},
        training={"candidates": ["decision_tree"]},
        predictions={},
    )
    project.add(pipeline, loans(500))
    assert project.materialize().success
    table = project.lake.table("loans", "predictions").to_polars()
    clean = project.lake.table("loans", "clean_data").to_polars()
    labels = clean.select("_etl_ml_row", "income")
    report = add_labels(project.lake, "loans", labels).report
    assert report is not None
    found = report["versions"]["0000000001"]
    # All rows were scored; those of the training set are not counted.
    arrays = project.lake.open("loans", "transformed_arrays")
    tested, trained = (arrays.read(f"{side}_rows.npy").tolist() for side in ("test", "train"))
    assert (found["rows"], found["trained_on"]) == (len(tested), len(trained))
    both = table.join(labels, on="_etl_ml_row").filter(pl.col("_etl_ml_row").is_in(tested))
    truth, said = both["income"].to_numpy(), both["prediction"].to_numpy()
    assert found["metrics"]["mae"]["value"] == pytest.approx(
        sklearn.mean_absolute_error(truth, said)
    )
    assert found["metrics"]["r2"]["value"] == pytest.approx(sklearn.r2_score(truth, said))


def test_the_command_takes_a_file_and_tells_how_good_the_predictions_were(
    scored: Project, tmp_path: Path
) -> None:
    LABELS.write_csv(tmp_path / "outcomes.csv")
    done = scored.command("etl-ml", "labels", "loans", str(tmp_path / "outcomes.csv"))
    assert done.returncode == 0, done.stderr
    assert "400 labels, 400 of them new." in done.stdout
    assert "By week" in done.stdout
    shown = scored.command("etl-ml", "show", "loans", "performance")
    assert "Predictions with a label" in shown.stdout
    wrong = scored.command("etl-ml", "labels", "loans", "outcomes.csv", "--by", "weeks")
    assert wrong.returncode == 1
    assert "nearest   week" in wrong.stderr
    gone = scored.command("etl-ml", "labels", "loans", "nowhere.csv")
    assert gone.returncode == 1
    assert "nowhere.csv" in gone.stderr
