from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.utils.validation import check_is_fitted

from etl_ml.lake.estimator import UntrustedModel, dump_estimator, load_estimator
from etl_ml.train.model import TabularClassifier
from etl_ml.train.trusted import MODEL, read_model
from etl_ml.transform.preprocessor import Preprocessor
from etl_ml_tests.project import loans

COLUMNS = {"age": "integer", "income": "float", "country": "category", "opened": "date"}
ROWS = loans(300)
TEXTS = ROWS["defaulted"].replace_strict({0: "repaid", 1: "defaulted"})


def model(
    classes: list[Any], labels: Any, threshold: float = 0.5, **options: Any
) -> TabularClassifier:
    estimator = options.get("estimator") or LogisticRegression(max_iter=2000)
    made = TabularClassifier(Preprocessor(COLUMNS, scale="standard"), estimator, classes, threshold)
    return made.fit(ROWS, labels)


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ([0, 1], ROWS["defaulted"]),
        ([1, 0], ROWS["defaulted"]),
        (["repaid", "defaulted"], TEXTS),
        (["repaid", "defaulted"], TEXTS.to_pandas()),
        ([False, True], ROWS["defaulted"].cast(pl.Boolean)),
        (["DE", "FR", "IT"], ROWS["country"]),
    ],
    ids=str,
)
def test_answers_are_the_labels_in_the_order_of_the_classes(
    classes: list[Any], labels: Any
) -> None:
    found = model(classes, labels)
    assert found.classes_.tolist() == classes
    shares = found.predict_proba(ROWS)
    assert shares.shape == (300, len(classes))
    assert shares.dtype == np.float64
    assert np.allclose(shares.sum(axis=1), 1)
    said = found.predict(ROWS)
    if len(classes) == 2:
        expected = [classes[int(share >= 0.5)] for share in shares[:, 1]]
    else:
        expected = [classes[place] for place in shares.argmax(axis=1)]
    assert said.tolist() == expected
    assert accuracy_score(np.asarray(labels), said) > 0.6


def test_the_order_of_the_classes_says_which_column_is_whose() -> None:
    one = model([0, 1], ROWS["defaulted"]).predict_proba(ROWS)
    other = model([1, 0], ROWS["defaulted"]).predict_proba(ROWS)
    assert np.allclose(one, other[:, ::-1], atol=1e-4)


def test_the_threshold_moves_the_answers_and_not_the_probabilities() -> None:
    even, sure = (model(["repaid", "defaulted"], TEXTS, threshold=t) for t in (0.5, 0.9))
    assert np.array_equal(even.predict_proba(ROWS), sure.predict_proba(ROWS))
    assert set(sure.predict(ROWS)) <= {"repaid", "defaulted"}
    expected = (sure.predict_proba(ROWS)[:, 1] >= 0.9).sum()
    assert (sure.predict(ROWS) == "defaulted").sum() == expected
    assert (even.predict(ROWS) == "defaulted").sum() > expected


def test_pandas_polars_order_and_other_columns_do_not_matter() -> None:
    found = model([0, 1], ROWS["defaulted"])
    expected = found.predict_proba(ROWS)
    wider = ROWS.select(ROWS.columns[::-1]).with_columns(noise=pl.lit("x"))
    assert np.array_equal(found.predict_proba(wider), expected)
    assert np.array_equal(found.predict_proba(wider.to_pandas()), expected)


def test_fitting_starts_from_scratch() -> None:
    found = model([0, 1], ROWS["defaulted"])
    other = loans(200, seed=9).with_columns(pl.col("income") * 100)
    again = clone(found).fit(other, other["defaulted"])
    found.fit(other, other["defaulted"])
    assert np.array_equal(found.predict_proba(other), again.predict_proba(other))
    assert found.preprocessor.learned_ == again.preprocessor.learned_


def test_it_is_a_scikit_learn_classifier() -> None:
    fresh = TabularClassifier(Preprocessor(COLUMNS), LogisticRegression(), [0, 1])
    assert is_classifier(fresh)
    with pytest.raises(NotFittedError):
        check_is_fitted(fresh)
    check_is_fitted(model([0, 1], ROWS["defaulted"]))
    copied = clone(model([0, 1], ROWS["defaulted"], threshold=0.3))
    assert copied.threshold == 0.3
    with pytest.raises(NotFittedError):
        check_is_fitted(copied)


@pytest.mark.parametrize("scoring", ["accuracy", "roc_auc", "neg_log_loss"])
def test_scikit_learns_cross_validation_takes_it(scoring: str) -> None:
    frame = ROWS.to_pandas()
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    whole = TabularClassifier(
        Preprocessor(COLUMNS, scale="standard"), LogisticRegression(max_iter=2000), [0, 1]
    )
    found = cross_val_score(whole, frame, ROWS["defaulted"].to_numpy(), cv=folds, scoring=scoring)
    assert np.isfinite(found).all()
    assert found.mean() > {"accuracy": 0.65, "roc_auc": 0.7, "neg_log_loss": -0.65}[scoring]


def test_scikit_learns_cross_validation_takes_text_labels() -> None:
    whole = TabularClassifier(
        Preprocessor(COLUMNS, scale="standard"),
        LogisticRegression(max_iter=2000),
        ["repaid", "defaulted"],
    )
    assert cross_val_score(whole, ROWS.to_pandas(), TEXTS.to_numpy(), cv=3).mean() > 0.65


def test_a_stored_model_answers_the_same_and_warns_of_nothing() -> None:
    estimator = LGBMClassifier(n_estimators=5, random_state=0, n_jobs=1, verbosity=-1)
    found = model(["repaid", "defaulted"], TEXTS, threshold=0.4, estimator=estimator)
    loaded = load_estimator(dump_estimator(found), trusted=MODEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(loaded.predict_proba(ROWS), found.predict_proba(ROWS))
        assert np.array_equal(loaded.predict(ROWS), found.predict(ROWS))
    assert loaded.classes_.tolist() == ["repaid", "defaulted"]
    assert loaded.threshold == 0.4


def test_a_model_of_another_version_is_refused_and_says_so() -> None:
    old = model([0, 1], ROWS["defaulted"])
    del old.preprocessor.format_
    with pytest.raises(UntrustedModel, match=r"another version of etl_ml.*None.*format 2"):
        read_model(dump_estimator(old))
