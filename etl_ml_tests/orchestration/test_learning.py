"""What a pipeline can ask of split, features, training and evaluation, end to end."""

from __future__ import annotations

from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from etl_ml_tests.project import Project, attributes, checks, failure_message, loans

ROWS = loans(900, seed=5)


def asked(**sections: Any) -> dict[str, Any]:
    """The small pipeline with one more column, `bank`."""
    found = attributes(**sections)
    found["contract"]["columns"]["bank"] = {"type": "string"}
    return found


def with_bank(rows: pl.DataFrame, banks: int = 60) -> pl.DataFrame:
    names = [f"bank {n % banks:02}" for n in range(len(rows))]
    return rows.with_columns(pl.Series("bank", names))


def done(
    project: Project, pipeline: dict[str, Any], rows: pl.DataFrame
) -> dg.ExecuteInProcessResult:
    project.add(pipeline, rows)
    result = project.materialize()
    assert result.success, failure_message(result)
    return result


def test_time_trains_strictly_before_it_tests_and_folds_run_forward(project: Project) -> None:
    pipeline = attributes(split={"strategy": "time", "column": "opened"})
    done(project, pipeline, ROWS)
    arrays = project.lake.open("loans", "transformed_arrays")
    clean = project.lake.table("loans", "clean_data").to_polars()
    opened = dict(zip(clean["_etl_ml_row"], clean["opened"], strict=True))
    train, test = (
        [opened[row] for row in arrays.read(f"{side}_rows.npy")] for side in ("train", "test")
    )
    assert max(train) < min(test)
    split = arrays.read("split.json")
    assert split["boundary"] == min(test).isoformat()
    assert split["test"]["rows"] / len(ROWS) == pytest.approx(0.2, abs=0.02)
    assert project.lake.read("loans", "model_evaluation", "evaluation_report.json")["deployable"]


def test_a_group_is_on_one_side_and_is_no_feature(project: Project) -> None:
    pipeline = asked(split={"strategy": "group", "column": "bank"})
    done(project, pipeline, with_bank(ROWS))
    arrays = project.lake.open("loans", "transformed_arrays")
    clean = project.lake.table("loans", "clean_data").to_polars()
    bank = dict(zip(clean["_etl_ml_row"], clean["bank"], strict=True))
    train, test = (
        {bank[row] for row in arrays.read(f"{side}_rows.npy")} for side in ("train", "test")
    )
    assert not train & test
    assert not any(name.startswith("bank") for name in arrays.read("feature_names.json"))


def test_a_stratified_split_has_the_same_share_of_each_class(project: Project) -> None:
    done(project, attributes(split={"strategy": "stratified"}), ROWS)
    arrays = project.lake.open("loans", "transformed_arrays")
    shares = [arrays.read(f"{side}_target.npy").mean() for side in ("train", "test")]
    assert shares[0] == pytest.approx(shares[1], abs=0.005)


def test_regression_runs_from_rows_to_a_deployed_model(project: Project) -> None:
    rng = np.random.default_rng(0)
    rows = ROWS.with_columns(
        pl.Series("defaulted", ROWS["age"].to_numpy() * 2.5 + rng.normal(0, 3, len(ROWS)))
    )
    pipeline = attributes(
        target={"task": "regression"}, training={"candidates": ["ridge", "lightgbm"]}
    )
    pipeline["contract"]["columns"]["defaulted"] = {"type": "float"}
    pipeline["evaluation"] = {"gates": {"r2": 0.9, "rmse": 10.0}, "slices": ["country"]}
    done(project, pipeline, rows)
    report = project.lake.read("loans", "model_evaluation", "evaluation_report.json")
    assert (report["task"], report["threshold"], report["confusion_matrix"]) == (
        "regression",
        None,
        None,
    )
    assert set(report["metrics"]["test"]) == {"r2", "mae", "rmse", "mape"}
    assert report["deployable"], report["reasons"]
    assert set(report["slices"]["country"]) == {"DE", "FR", "IT"}
    deployed = project.lake.read("loans", "deployed_model", "deployment_report.json")
    assert deployed["targets"][0]["max_abs_difference"] <= 1e-6
    # The next run is compared with it, by r2.
    result = project.materialize()
    assert result.success, failure_message(result)
    again = project.lake.read("loans", "model_evaluation", "evaluation_report.json")
    assert again["champion"]["metric"] == "r2"


@pytest.mark.parametrize("method", ["grid", "random", "halving", "optuna"])
def test_a_search_tries_what_it_was_given_on_the_same_folds(project: Project, method: str) -> None:
    depths = [1, 3, 6]
    pipeline = attributes(
        training={
            "candidates": [{"decision_tree": {"max_depth": depths}}],
            "search": {"method": method, "trials": 4},
        }
    )
    done(project, pipeline, ROWS)
    board = project.lake.read("loans", "trained_model", "leaderboard.json")
    tried = {entry["params"].get("max_depth") for entry in board}
    assert tried <= {*depths, None}
    assert len(tried) > 1
    if method == "grid":
        assert tried == set(depths)
    scored = [
        entry["mean"] for entry in board if entry["mean"] is not None and "share" not in entry
    ]
    assert scored == sorted(scored, reverse=True)


def test_a_threshold_for_a_cost_is_chosen_without_test_rows_and_reported(project: Project) -> None:
    cost = {"false_positive": 1, "false_negative": 10}
    pipeline = attributes(
        training={"threshold": {"cost": cost}, "candidates": ["logistic_regression"]}
    )
    done(project, pipeline, ROWS)
    report = project.lake.read("loans", "model_evaluation", "evaluation_report.json")
    assert report["threshold"] < 0.4  # missing a default is dear
    assert "lowest cost" in report["threshold_rule"]["rule"]
    assert "lowest cost" in project.lake.read("loans", "model_evaluation", "model_card.md")


def test_balanced_classes_and_calibration_reach_the_model(project: Project) -> None:
    training = {
        "class_weight": "balanced",
        "calibrate": "isotonic",
        "candidates": ["logistic_regression", "lightgbm"],
    }
    done(project, attributes(training=training), ROWS)
    board = project.lake.read("loans", "trained_model", "leaderboard.json")
    assert [entry["mean"] for entry in board if entry["mean"] is None] == []
    card = project.lake.read("loans", "model_evaluation", "model_card.md")
    assert "calibrated (isotonic)" in card


def test_a_class_of_ones_own_and_a_function_are_trained_deployed_and_asked_again(
    project: Project,
) -> None:
    (project.package / "own.py").write_text(
        "from sklearn.tree import DecisionTreeClassifier\n\n\n"
        "class Stump(DecisionTreeClassifier):\n"
        "    def __init__(self, max_depth=1, random_state=None):\n"
        "        super().__init__(max_depth=max_depth, random_state=random_state)\n\n\n"
        "def add_ratio(frame):\n"
        "    frame['income_by_age'] = frame['income'] / frame['age']\n"
        "    return frame\n"
    )
    pipeline = attributes(
        training={"candidates": [{f"{project.module}.own:Stump": {"max_depth": 3}}]},
        features={"function": f"{project.module}.own:add_ratio"},
    )
    done(project, pipeline, ROWS)
    names = project.lake.read("loans", "transformed_arrays", "feature_names.json")
    assert "income_by_age" in names
    deployed = project.lake.read("loans", "deployed_model", "deployment_report.json")
    assert deployed["targets"][0]["verified"]


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"training": {"candidates": [{"lightgbm": {"num_leafs": 5}}]}},
            "no parameter 'num_leafs'",
        ),
        ({"training": {"candidates": ["nowhere.own:Class"]}}, "'nowhere.own:Class' cannot be"),
        ({"training": {"candidates": ["os.path:Class"]}}, "os.path has no class 'Class'"),
        ({"features": {"function": "nowhere.own:change"}}, "'nowhere.own:change' cannot be"),
    ],
    ids=["parameter", "module", "class", "function"],
)
def test_what_is_misspelt_is_told_before_a_row_is_read(
    project: Project, sections: dict[str, Any], told: str
) -> None:
    project.add(attributes(**sections), ROWS)
    result = project.materialize()
    assert not result.success
    assert told in failure_message(result)
    assert project.lake.latest("loans", "raw_data") is None
    # Who only wants the rows gets them.
    assert project.materialize("raw_data").success
    assert project.lake.latest("loans", "raw_data") is not None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return frame[frame['age'] > 30]", "rows for"),
        ("return frame.sort_values('age')", "in another order"),
        ("frame['x'] = frame['defaulted']; return frame", "The target is no feature"),
        ("frame['x'] = frame['age'] - frame['age'].mean(); return frame", "row by row"),
        ("return 1 / 0", "ZeroDivisionError"),
        ("return 7", "returned int"),
    ],
    ids=["drops", "reorders", "target", "mean", "fails", "number"],
)
def test_a_function_that_breaks_its_promise_is_named(
    project: Project, body: str, told: str
) -> None:
    (project.package / "own.py").write_text(f"def change(frame):\n    {body}\n")
    name = f"{project.module}.own:change"
    project.add(attributes(features={"function": name}), ROWS)
    result = project.materialize()
    assert not result.success
    message = failure_message(result)
    assert name in message
    assert told in message
    assert project.lake.latest("loans", "transformed_arrays") is None


def test_a_feature_that_gives_the_target_away_is_warned_of_by_name(project: Project) -> None:
    rows = ROWS.with_columns(income=pl.col("defaulted") * 1000.0 + pl.col("age"))
    result = done(project, attributes(), rows)
    found = checks(result)["no_leakage"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert "income" in (found.description or "")
    assert project.lake.latest("loans", "deployed_model") is not None


def test_a_slice_that_fails_its_gate_keeps_the_model_back(project: Project) -> None:
    rng = np.random.default_rng(1)
    rows = loans(3000, seed=9)
    italian = (rows["country"] == "IT").to_numpy()
    noise = rng.integers(0, 2, len(rows))
    age = rows["age"].to_numpy()
    rows = rows.with_columns(pl.Series("defaulted", np.where(italian, noise, age < 40).astype(int)))
    pipeline = attributes(training={"candidates": ["lightgbm"]})
    pipeline["evaluation"] = {"gates": {"accuracy": 0.75}, "slices": ["country"]}
    done(project, pipeline, rows)
    report = project.lake.read("loans", "model_evaluation", "evaluation_report.json")
    assert report["gates"]["accuracy"]["passed"]
    assert not report["deployable"]
    assert any("country is IT" in reason for reason in report["reasons"])
    assert project.lake.latest("loans", "deployed_model") is None


def test_when_the_budget_ends_first_nothing_is_deployed_and_it_is_told(project: Project) -> None:
    search = {"method": "random", "trials": 3, "timeout_seconds": 0.0001}
    project.add(attributes(training={"search": search}), ROWS)
    result = project.materialize()
    assert not result.success
    assert "ended before one candidate was cross-validated" in failure_message(result)
    assert project.lake.latest("loans", "trained_model") is None
