from __future__ import annotations

import copy
import io
import struct
import zlib
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier

from etl_ml.evaluate import Evaluation, evaluate
from etl_ml.evaluate.card import model_card
from etl_ml.evaluate.importance import permutation_importance
from etl_ml.evaluate.pictures import draw
from etl_ml.lake import Lake, open_lake
from etl_ml.spec import Pipeline
from etl_ml.spec.training import METRICS
from etl_ml.train import load_model
from etl_ml.train.metrics import Scores
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import ATTRIBUTES, Project, loans
from etl_ml_tests.train.stages import Versions, fit, prepare

SECRET = "topsecret"
PICTURES = {
    "roc.png",
    "precision_recall.png",
    "confusion_matrix.png",
    "calibration.png",
    "importance.png",
}


@pytest.fixture(scope="module")
def sensitive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Versions]:
    """A trained model of rows whose countries are nobody's business."""
    lake = open_lake(tmp_path_factory.mktemp("evaluate") / "lake")
    rows = loans().with_columns(pl.format(SECRET + "{}", pl.col("country")).alias("country"))
    return lake, fit(lake, confidential(), prepare(lake, confidential(), rows))


def confidential(**sections: Any) -> Pipeline:
    columns = ATTRIBUTES["contract"]["columns"] | {
        "country": {"type": "category", "sensitive": True}
    }
    return make_pipeline(contract={"columns": columns}, **sections)


def evaluated(sensitive: tuple[Lake, Versions], **evaluation: Any) -> Evaluation:
    _, made = sensitive
    asked = (made["trained_model"], made["transformed_arrays"], made["clean_data"])
    return evaluate(*asked, confidential(evaluation=evaluation))


@pytest.fixture(scope="module")
def found(sensitive: tuple[Lake, Versions]) -> Evaluation:
    return evaluated(sensitive)


def test_the_report_has_the_keys_that_are_promised(demo: Project) -> None:
    report = demo.lake.read("phishing", "model_evaluation", "evaluation_report.json")
    promised = {
        "task",
        "rows",
        "threshold",
        "metrics",
        "confusion_matrix",
        "gates",
        "overfit",
        "slices",
        "champion",
        "deployable",
        "reasons",
    }
    assert promised <= set(report)
    assert report["task"] == "classification"
    assert set(report["rows"]) == {"train", "test"}
    assert (
        set(report["metrics"]["train"])
        == set(report["metrics"]["test"])
        == set(METRICS["classification"])
    )
    for measured in report["metrics"]["test"].values():
        assert set(measured) == {"value", "low", "high"}
    assert set(report["gates"]) == {"f1", "roc_auc"}
    for gate in report["gates"].values():
        assert set(gate) == {"limit", "value", "passed"}
    assert (report["champion"], report["deployable"], report["reasons"]) == (None, True, [])


def test_the_baseline_is_that_of_scikit_learns_dummy(demo: Project) -> None:
    report = demo.lake.read("phishing", "model_evaluation", "evaluation_report.json")
    arrays = demo.lake.open("phishing", "transformed_arrays")
    features, target = (arrays.read(f"train_{part}.npy") for part in ("features", "target"))
    asked, expected = (arrays.read(f"test_{part}.npy") for part in ("features", "target"))
    dummies = [DummyClassifier(strategy="constant", constant=label) for label in (0, 1)]
    reached = [sk.f1_score(expected, d.fit(features, target).predict(asked)) for d in dummies]
    assert report["baseline"]["value"] == pytest.approx(max(reached))
    assert report["baseline"]["beaten"] is True
    card = demo.lake.read("phishing", "model_evaluation", "model_card.md")
    assert f"Answering every row alike reaches {max(reached):.4f} at best." in card


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_model_that_learned_nothing_does_not_beat_the_baseline(lake: Lake, task: str) -> None:
    rows = loans().with_columns(
        pl.Series("defaulted", np.random.default_rng(5).integers(0, 2, 600))
    )
    contract = {"columns": ATTRIBUTES["contract"]["columns"] | {"defaulted": {"type": "integer"}}}
    pipeline = make_pipeline(target={"task": task}, contract=contract)
    made = fit(lake, pipeline, prepare(lake, pipeline, rows))
    found = evaluate(
        made["trained_model"], made["transformed_arrays"], made["clean_data"], pipeline
    )
    assert found.report["baseline"]["beaten"] is False
    assert "not surely better" in found.card


def test_the_demos_metrics_are_scikit_learns_on_its_stored_arrays(demo: Project) -> None:
    report = demo.lake.read("phishing", "model_evaluation", "evaluation_report.json")
    arrays = demo.lake.open("phishing", "transformed_arrays")
    model = load_model(demo.lake.open("phishing", "trained_model")).estimator
    for side in ("train", "test"):
        target = arrays.read(f"{side}_target.npy")
        share = model.predict_proba(arrays.read(f"{side}_features.npy"))
        said = (share[:, 1] >= 0.5).astype(int)
        expected = {
            "accuracy": sk.accuracy_score(target, said),
            "balanced_accuracy": sk.balanced_accuracy_score(target, said),
            "precision": sk.precision_score(target, said),
            "recall": sk.recall_score(target, said),
            "f1": sk.f1_score(target, said),
            "roc_auc": sk.roc_auc_score(target, share[:, 1]),
            "average_precision": sk.average_precision_score(target, share[:, 1]),
            "mcc": sk.matthews_corrcoef(target, said),
            "log_loss": sk.log_loss(target, share),
            "brier": sk.brier_score_loss(target, share[:, 1]),
        }
        told = report["metrics"][side]
        values = told if side == "train" else {name: m["value"] for name, m in told.items()}
        assert values == pytest.approx(expected, abs=1e-9)
        assert report["rows"][side] == len(target)
    for name, measured in report["metrics"]["test"].items():
        assert measured["low"] < measured["value"] < measured["high"], name
    assert report["confusion_matrix"] == sk.confusion_matrix(target, said).tolist()
    board = demo.lake.read("phishing", "trained_model", "leaderboard.json")
    difference = board[0]["mean"] - expected["f1"]
    assert report["overfit"]["difference"] == pytest.approx(difference, abs=1e-9)


@pytest.mark.parametrize(
    ("gates", "missed"),
    [
        ({"f1": 0.01, "log_loss": 100.0}, []),
        ({"f1": 1.0}, ["f1"]),
        ({"log_loss": 0.0001, "roc_auc": 0.01}, ["log_loss"]),
        ({"brier": 0.0, "accuracy": 1.0}, ["brier", "accuracy"]),
    ],
    ids=str,
)
def test_gates_are_lower_limits_for_scores_and_upper_ones_for_losses(
    sensitive: tuple[Lake, Versions], gates: dict[str, float], missed: list[str]
) -> None:
    report = evaluated(sensitive, gates=gates).report
    assert [name for name, gate in report["gates"].items() if not gate["passed"]] == missed
    assert report["deployable"] is (not missed)
    assert [reason.split()[0] for reason in report["reasons"]] == missed


def test_a_gate_that_is_just_met_is_passed(
    sensitive: tuple[Lake, Versions], found: Evaluation
) -> None:
    value = found.report["metrics"]["test"]["accuracy"]["value"]
    assert evaluated(sensitive, gates={"accuracy": value}).report["deployable"]
    assert not evaluated(sensitive, gates={"accuracy": np.nextafter(value, 1)}).report["deployable"]


@pytest.mark.parametrize("metric", ["f1", "log_loss"])
def test_overfit_is_positive_where_the_test_rows_are_worse(
    sensitive: tuple[Lake, Versions], metric: str
) -> None:
    _, made = sensitive
    pipeline = confidential(training={"metric": metric}, evaluation={"max_overfit": 0.0})
    asked = (made["trained_model"], made["transformed_arrays"], made["clean_data"])
    overfit = evaluate(*asked, pipeline).report["overfit"]
    gap = overfit["cross_validated"] - overfit["test"]
    assert overfit["difference"] == pytest.approx(gap if metric == "f1" else -gap, abs=1e-12)
    assert overfit["passed"] is (overfit["difference"] <= 0)


def test_overfit_above_its_limit_is_a_reason(
    sensitive: tuple[Lake, Versions], found: Evaluation
) -> None:
    assert found.report["overfit"]["passed"] is True
    gap = found.report["overfit"]["difference"]
    limited = evaluated(sensitive, max_overfit=max(gap, 0.0)).report
    assert limited["overfit"]["passed"] is (gap <= max(gap, 0.0))
    assert limited["deployable"]


def test_evaluating_twice_gives_the_same_bytes(
    sensitive: tuple[Lake, Versions], found: Evaluation
) -> None:
    again = evaluated(sensitive)
    assert again.report == found.report
    assert again.card == found.card
    assert again.pictures == found.pictures


def test_the_pictures_are_whole_pngs(found: Evaluation) -> None:
    assert set(found.pictures) == PICTURES
    for data in found.pictures.values():
        pixels = imread(io.BytesIO(data))
        assert pixels.shape[:2] == (420, 520)
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10
        _check_chunks(data)


def _check_chunks(data: bytes) -> None:
    """Every chunk's checksum, per the PNG specification."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(body)
        kinds.append(body[:4])
        at += 12 + length
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"


@pytest.mark.parametrize(
    "classes", [["a$b$", "$\\frac{"], ["x", "y", "z"]], ids=["dollars", "three"]
)
def test_pictures_take_any_name_and_several_classes(classes: list[str]) -> None:
    rng = np.random.default_rng(0)
    target = np.arange(90) % len(classes)
    shares = rng.dirichlet(np.ones(len(classes)), 90)
    importance = [{"column": "$\\bad{$", "mean": 0.1, "std": 0.01}]
    drawn = draw(Scores(target, shares), classes, importance, "f1")
    assert set(drawn) == PICTURES
    for data in drawn.values():
        _check_chunks(data)


def test_pictures_take_a_model_that_always_says_the_same() -> None:
    drawn = draw(Scores(np.arange(40) % 2, np.full((40, 2), 0.5)), [0, 1], [], "f1")
    assert all(imread(io.BytesIO(data)).any() for data in drawn.values())


def test_no_sensitive_value_is_in_the_card_or_the_report(found: Evaluation) -> None:
    assert SECRET not in found.card
    assert SECRET not in repr(found.report)
    assert "country" in found.card


def test_the_card_says_what_a_reader_asks(demo: Project) -> None:
    card = demo.lake.read("phishing", "model_evaluation", "model_card.md")
    report = demo.lake.read("phishing", "model_evaluation", "evaluation_report.json")
    sections = [line for line in card.splitlines() if line.startswith("#")]
    assert sections == [
        "# phishing",
        "## Model",
        "## Data",
        "## Features",
        "## Test metrics",
        "## Against the champion",
        "## What it looks at",
        "## Limits",
        "## Made with",
    ]
    assert "**May be deployed.** Every gate is passed." in card
    assert f"- Estimator: {report['model']['candidate']}" in card
    assert "positive is `1`" in card
    assert "- Owners: team:security" in card
    assert "website_phishing.csv" in card
    f1 = report["metrics"]["test"]["f1"]
    row = f"| f1 | {f1['value']:.4f} | {f1['low']:.4f} to {f1['high']:.4f} | 0.75 passed |"
    assert row in card
    assert "There was no champion to compare with." in card
    assert "nan" not in card.lower()
    assert "None" not in card


def test_the_card_says_why_a_model_is_not_deployable(sensitive: tuple[Lake, Versions]) -> None:
    card = evaluated(sensitive, gates={"f1": 1.0}).card
    assert "**Not deployable.** f1 " in card
    assert "misses its gate 1." in card
    assert "1 missed |" in card


def test_the_card_tells_of_the_champion(found: Evaluation) -> None:
    report = copy.deepcopy(found.report)
    assert "**May be deployed.** No gate is set." in found.card
    report["champion"] = {
        "version": "0000000007",
        "metric": "f1",
        "rows": 321,
        "difference": -0.0123,
        "low": -0.03,
        "high": 0.01,
        "reason": "not worse than the champion",
        "passed": True,
    }
    card = model_card(report, confidential(), {})
    told = "Version 0000000007, f1 on the same 321 rows: -0.0123 (-0.0300 to +0.0100), not worse"
    assert told in card
    report["champion"] |= {"difference": None, "reason": "only 3 of 9 rows"}
    assert "Not compared with version 0000000007: only 3 of 9 rows." in model_card(
        report, confidential(), {}
    )


def test_importance_is_the_loss_when_all_of_a_columns_features_are_shuffled() -> None:
    class Half:
        """Looks at the first column's two features only."""

        def source_of(self) -> list[str]:
            return ["a", "a", "b"]

        kinds_ = ("a", "b", "c")

        def predict_proba(self, values: Any) -> Any:
            share = values[:, 0] * values[:, 1]
            return np.column_stack([1 - share, share])

    model: Any = Half()
    model.preprocessor, model.estimator, model.threshold = model, model, 0.5
    rng = np.random.default_rng(4)
    bits = rng.integers(0, 2, 4000)
    features = np.column_stack([bits, bits, rng.random(4000)]).astype(np.float32)
    found = permutation_importance(model, features, bits, "accuracy", seed=0)
    assert [entry["column"] for entry in found] == ["a", "b"]
    # Shuffled together the two features stay equal, and half of the answers are right.
    assert found[0]["mean"] == pytest.approx(0.5, abs=0.03)
    assert (found[1]["mean"], found[1]["std"]) == (0.0, 0.0)


def test_a_card_shows_what_is_gated_in_each_slice_and_says_limits_in_words() -> None:
    from etl_ml.evaluate.card import card_html, model_card

    measured = {n: {"value": 0.9, "low": 0.8, "high": 0.95} for n in METRICS["classification"]}
    gate = {"roc_auc": {"limit": 0.7, "value": 0.9, "passed": True}}
    report = {
        "deployable": True,
        "reasons": [],
        "model": {"candidate": "lightgbm", "params": {"learning_rate": 0.012184186502221764}},
        "classes": [0, 1],
        "threshold": 0.5,
        "rows": {"train": 800, "test": 300},
        "metrics": {"test": measured},
        "gates": gate,
        "overfit": {"metric": "f1", "cross_validated": 0.9, "difference": 0.0},
        "slices": {"country": {"D|E": {"rows": 40, "metrics": measured, "gates": gate}}},
        "champion": None,
        "importance": [],
        "baseline": {"metric": "f1", "value": 0.85, "beaten": False},
    }
    card = model_card(report, make_pipeline(), {})
    assert "| country | rows | roc_auc | f1 |" in card
    assert "| D\\|E | 40 |" in card
    assert "reaches 0.8500 at best: **the model is not surely better than that.**" in card
    report["slices"] = {"country": {"<img src=x>": report["slices"]["country"]["D|E"]}}
    assert "| &lt;img src=x&gt; | 40 |" in model_card(report, make_pipeline(), {})
    assert "| income | float | at least 0.0 |" in card
    assert "learning_rate=0.01218)" in card
    page = card_html(card.replace("D\\|E", "<script>"), {"roc.png": b"png"})
    assert "<script>" not in page
    assert "data:image/png;base64,cG5n" in page
