from __future__ import annotations

import copy
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.metrics import f1_score, log_loss

from etl_ml.evaluate import evaluate
from etl_ml.extract import extract
from etl_ml.lake import Contents, Lake, open_lake
from etl_ml.spec import Pipeline, parse
from etl_ml.train import TrainingError, load_model, train
from etl_ml.train.candidates import UnknownParameter
from etl_ml.train.folds import folds_of
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import Project, loans
from etl_ml_tests.train.stages import Versions, prepare

CLASSES = [0, 1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """Arrays of the small pipeline."""
    lake = open_lake(tmp_path_factory.mktemp("train") / "lake")
    return prepare(lake, make_pipeline(), loans())


def trainable(**training: Any) -> Pipeline:
    return make_pipeline(training=training)


def folds(target: Any, units: Any, count: int = 5, classes: list[Any] = CLASSES) -> Any:
    return numbered(
        folds_of(np.asarray(target), np.asarray(units), classes, trainable(folds=count))
    )


def numbered(found: list[tuple[Any, Any]]) -> Any:
    """In which fold each row is held out; each row is in one, and fitted in all others."""
    assert all((inside == ~held_out).all() for inside, held_out in found)
    held_out = np.array([held_out for _, held_out in found])
    assert (held_out.sum(axis=0) == 1).all()
    return held_out.argmax(axis=0)


def test_folds_keep_units_together_and_every_row_is_held_out_once() -> None:
    rng = np.random.default_rng(0)
    units, target = rng.integers(0, 150, 900), rng.integers(0, 2, 900)
    fold = folds(target, units)
    assert set(fold) == {0, 1, 2, 3, 4}
    for unit in np.unique(units):
        assert len(set(fold[units == unit])) == 1


def test_folds_are_stratified() -> None:
    target = (np.random.default_rng(1).random(1000) < 0.1).astype(int)
    fold = folds(target, np.arange(1000))
    shares = [target[fold == number].mean() for number in range(5)]
    assert np.ptp(shares) < 1.5 / 200
    assert np.ptp(np.bincount(fold)) <= 2


def test_a_class_that_is_in_the_minority_of_every_unit_is_in_every_fold() -> None:
    units = np.repeat(np.arange(60), 20)
    target = (np.random.default_rng(2).random(1200) < 0.15).astype(int)
    assert max(target[units == unit].mean() for unit in range(60)) < 0.5
    fold = folds(target, units)
    shares = np.array([target[fold == number].mean() for number in range(5)])
    assert (np.abs(shares - target.mean()) < 0.06).all()


def test_folds_follow_the_seed_and_not_the_numbers_of_the_units() -> None:
    target, units = np.arange(400) % 2, np.repeat(np.arange(200), 2)
    assert np.array_equal(folds(target, units), folds(target, units * 7 + 3))
    other = numbered(folds_of(target, units, CLASSES, trainable(folds=5, seed=1)))
    assert not np.array_equal(folds(target, units), other)


def test_a_class_with_fewer_different_rows_than_folds_is_refused_with_figures() -> None:
    target = np.r_[np.zeros(100, int), np.ones(40, int)]
    units = np.r_[np.arange(100), np.repeat([200, 201, 202], [20, 10, 10])]
    with pytest.raises(TrainingError, match=r"class 1 has 3 different training rows.*folds = 5"):
        folds(target, units)


def test_a_class_that_cannot_be_in_every_fold_is_refused() -> None:
    # Class 2 is in five units, but its own are two: the others hold mostly another class.
    units = np.r_[np.arange(100), [0, 1, 2], [200] * 50, [201] * 50]
    target = np.r_[np.arange(100) % 2, [2, 2, 2], [2] * 100]
    with pytest.raises(TrainingError, match="class 2"):
        folds(target, units, classes=[0, 1, 2])


def test_the_leaderboard_holds_what_was_measured_best_first(made: Versions) -> None:
    wanted = ["decision_tree", "logistic_regression", {"decision_tree": {"max_depth": 2}}]
    pipeline = trainable(candidates=wanted)
    told: list[str] = []
    result = train(made["transformed_arrays"], pipeline, progress=told.append)
    board = result.leaderboard
    assert [set(entry) for entry in board] == [
        {"candidate", "params", "metric", "mean", "std", "folds", "fit_seconds"}
    ] * 3
    means = [entry["mean"] for entry in board]
    assert means == sorted(means, reverse=True)
    for entry in board:
        assert entry["mean"] == pytest.approx(np.mean(entry["folds"]), abs=1e-12)
        assert entry["std"] == pytest.approx(np.std(entry["folds"], ddof=1), abs=1e-12)
        logged = [line["score"] for line in result.log if line["candidate"] == entry["candidate"]]
        assert set(entry["folds"]) <= set(logged)
    assert len(result.log) == 9
    assert [line for line in told if "fold" not in line] == [
        line for line in told if re.search(r": f1 0\.\d{4} ± 0\.\d{4} in \d+\.\d s$", line)
    ]
    pattern = r"decision_tree: fold 2 of 3, 0\.\d{4} in \d+\.\d s, about \d+\.\d s left$"
    assert sum(bool(re.match(pattern, line)) for line in told) == 2
    assert len(told) == 12


def test_a_folds_score_is_scikit_learns_on_the_rows_that_were_held_out(made: Versions) -> None:
    from sklearn.tree import DecisionTreeClassifier

    pipeline, arrays = trainable(), made["transformed_arrays"]
    features, target = arrays.read("train_features.npy"), arrays.read("train_target.npy")
    fold = numbered(folds_of(target, arrays.read("train_units.npy"), CLASSES, pipeline))
    expected = []
    for number in range(3):
        model = DecisionTreeClassifier(random_state=42).fit(
            features[fold != number], target[fold != number]
        )
        expected.append(f1_score(target[fold == number], model.predict(features[fold == number])))
    assert train(arrays, pipeline).leaderboard[0]["folds"] == pytest.approx(expected, abs=1e-9)


def test_losses_rank_ascending(made: Versions) -> None:
    pipeline = trainable(metric="log_loss", candidates=["decision_tree", "logistic_regression"])
    board = train(made["transformed_arrays"], pipeline).leaderboard
    # A tree that is grown to the end is sure of itself, and pays for it.
    assert [entry["candidate"] for entry in board] == ["logistic_regression", "decision_tree"]
    assert board[0]["mean"] < board[1]["mean"]


def test_the_winner_is_fitted_on_all_training_rows_and_asked_through_the_stored_file(
    made: Versions, lake: Lake
) -> None:
    from sklearn.tree import DecisionTreeClassifier

    arrays = made["transformed_arrays"]
    result = train(arrays, trainable())
    version = lake.write("loans", "trained_model", Contents(files=result.files()))
    model = load_model(version)
    features, target = arrays.read("train_features.npy"), arrays.read("train_target.npy")
    peer = DecisionTreeClassifier(random_state=42).fit(features, target)
    rows = loans(200, seed=8)
    asked = model.preprocessor.transform(rows)
    assert np.allclose(model.predict_proba(rows), peer.predict_proba(asked), atol=1e-12)
    expected = log_loss(target, peer.predict_proba(features))
    assert log_loss(target, model.estimator.predict_proba(features)) == pytest.approx(expected)
    assert [line["fold"] for line in version.read("training_log.jsonl")] == [0, 1, 2]


def test_training_twice_gives_the_same_model_and_the_same_scores(made: Versions) -> None:
    pipeline = trainable(candidates=["lightgbm", "random_forest"])
    first, second = (train(made["transformed_arrays"], pipeline) for _ in range(2))
    assert first.files()["model.skops"] == second.files()["model.skops"]
    scores = [[entry["folds"] for entry in t.leaderboard] for t in (first, second)]
    assert scores[0] == scores[1]


def test_test_arrays_are_not_read(made: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = copy.copy(made["transformed_arrays"])
    honest = type(arrays).read

    def guarded(self: Any, file: str) -> Any:
        assert not file.startswith("test_")
        return honest(self, file)

    monkeypatch.setattr(type(arrays), "read", guarded)
    assert train(arrays, trainable()).leaderboard[0]["mean"] > 0.5


def test_an_unknown_parameter_is_named_before_anything_is_fitted(
    made: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.tree import DecisionTreeClassifier

    fitted: list[object] = []
    monkeypatch.setattr(DecisionTreeClassifier, "fit", lambda self, *_: fitted.append(self))
    pipeline = trainable(candidates=["decision_tree", {"random_forest": {"max_dept": 3}}])
    with pytest.raises(UnknownParameter, match="random_forest has no parameter 'max_dept'"):
        train(made["transformed_arrays"], pipeline)
    assert fitted == []


@pytest.mark.parametrize(
    "failing",
    [
        {"decision_tree": {"max_depth": -1}},
        {"lightgbm": {"num_leaves": 1}},
        {"svm": {"kernel": "no"}},
    ],
    ids=str,
)
def test_a_candidate_that_fails_is_reported_last_and_the_others_go_on(
    made: Versions, failing: dict[str, Any]
) -> None:
    ((name, params),) = failing.items()
    told: list[str] = []
    pipeline = trainable(candidates=[failing, "logistic_regression"])
    result = train(made["transformed_arrays"], pipeline, progress=told.append)
    best, last = result.leaderboard
    assert best["candidate"] == "logistic_regression"
    assert (last["candidate"], last["params"], last["mean"]) == (name, params, None)
    assert last["error"]
    ((key, value),) = params.items()
    assert told[0].startswith(f"{name} {key}={value}: failed: ")
    assert next(line for line in result.log if "error" in line)["fold"] == 0


def test_when_every_candidate_fails_training_fails_and_says_why(made: Versions) -> None:
    failing = [{"decision_tree": {"max_depth": -1}}, {"svm": {"C": -1.0}}]
    with pytest.raises(TrainingError) as refused:
        train(made["transformed_arrays"], trainable(candidates=failing))
    assert "every candidate failed" in refused.value.what
    assert "max_depth" in (refused.value.seen or "")
    assert "svm: " in (refused.value.seen or "")


def test_a_score_that_is_no_number_is_a_failure_and_not_the_best(
    made: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.tree import DecisionTreeClassifier

    def nowhere(self: Any, X: Any) -> Any:
        return np.full((len(X), 2), np.nan)

    monkeypatch.setattr(DecisionTreeClassifier, "predict_proba", nowhere)
    pipeline = trainable(metric="log_loss", candidates=["decision_tree", "logistic_regression"])
    best, last = train(made["transformed_arrays"], pipeline).leaderboard
    assert (best["candidate"], last["candidate"]) == ("logistic_regression", "decision_tree")
    assert last["mean"] is None
    assert "answers are not finite" in last["error"]


def test_the_demos_model_answers_as_its_arrays_say(demo: Project) -> None:
    model = load_model(demo.lake.open("phishing", "trained_model"))
    arrays = demo.lake.open("phishing", "transformed_arrays")
    rows = demo.lake.table("phishing", "clean_data").to_polars().sort("_etl_ml_row")
    test = rows.filter(pl.col("_etl_ml_row").is_in(arrays.read("test_rows.npy").tolist()))
    assert np.array_equal(model.preprocessor.transform(test), arrays.read("test_features.npy"))
    predicted = model.predict(test)
    assert f1_score(test["is_phishing"], predicted) > 0.8
    board = demo.lake.read("phishing", "trained_model", "leaderboard.json")
    assert {entry["candidate"] for entry in board} == {
        "logistic_regression",
        "random_forest",
        "lightgbm",
    }


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "least"), [("breast_cancer", 0.93), ("wine", 0.9), ("diabetes", 0.6), ("digits", 0.94)]
)
def test_a_well_known_table_runs_through_with_default_settings(
    tmp_path: Path, name: str, least: float, kind: str
) -> None:
    load = {
        "breast_cancer": load_breast_cancer,
        "wine": load_wine,
        "digits": load_digits,
        "diabetes": load_diabetes,
    }[name]
    frame = load(as_frame=True).frame
    if name == "diabetes":
        frame["target"] = (frame["target"] > frame["target"].median()).astype(int)
    write = frame.to_csv if kind == "csv" else frame.to_parquet
    write(tmp_path / f"{name}.{kind}", index=False)
    columns = {c: {"type": "integer" if c == "target" else "float"} for c in frame.columns}
    attributes = {
        "name": name,
        "source": {"type": "file", "path": f"{name}.{kind}"},
        "contract": {"columns": columns},
        "target": {"column": "target"},
    }
    pipeline = parse(attributes, file="defs.yaml")
    lake = open_lake(tmp_path / "lake")
    batches = extract(pipeline.source, base=tmp_path).rows
    raw = pl.concat([pl.DataFrame(pl.from_arrow(batch)) for batch in batches])
    made = prepare(lake, pipeline, raw.drop("_etl_ml_original"))
    assert made["clean_data"].table.rows == len(frame)
    if kind == "parquet":
        return  # equal rows, equal arrays: they are fitted once
    if name == "digits":  # ten classes: one candidate is slow enough
        pipeline = parse(attributes | {"training": {"candidates": ["random_forest"]}}, file="")
    trained = train(made["transformed_arrays"], pipeline)
    assert [entry["candidate"] for entry in trained.leaderboard if entry["mean"] is None] == []
    model = lake.write(name, "trained_model", Contents(files=trained.files()))
    found = evaluate(model, made["transformed_arrays"], made["clean_data"], pipeline)
    assert found.report["deployable"]
    assert found.report["metrics"]["test"]["f1"]["value"] > least


class RaisesWhenMade:
    def __init__(self) -> None:
        raise RuntimeError("boom in init")

    def fit(self, X: Any, y: Any) -> None: ...

    def predict_proba(self, X: Any) -> None: ...


def test_a_class_of_ones_own_that_cannot_be_made_leaves_the_others_alone(
    made: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.base import BaseEstimator, ClassifierMixin

    own = type("Own", (ClassifierMixin, RaisesWhenMade, BaseEstimator), {"__module__": __name__})
    leaves = type(
        "Leaves",
        (ClassifierMixin, BaseEstimator),
        {
            "__module__": __name__,
            "fit": lambda self, X, y: sys.exit(3),
            "predict_proba": lambda self, X: None,
        },
    )
    monkeypatch.setitem(globals(), "Own", own)
    monkeypatch.setitem(globals(), "Leaves", leaves)
    names = ["logistic_regression", f"{__name__}:Own", f"{__name__}:Leaves"]
    best, *others = train(made["transformed_arrays"], trainable(candidates=names)).leaderboard
    assert best["candidate"] == "logistic_regression"
    told = {entry["candidate"]: entry["error"] for entry in others}
    assert "boom in init" in told[f"{__name__}:Own"]
    assert "SystemExit" in told[f"{__name__}:Leaves"]


def test_no_rows_have_no_answers(made: Versions) -> None:
    model = train(made["transformed_arrays"], trainable()).model
    found = model.predict_proba(loans(3).head(0))  # type: ignore[union-attr]
    assert found.shape == (0, 2)
    assert len(model.predict(loans(3).head(0))) == 0
