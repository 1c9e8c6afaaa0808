"""Traps: what leaks elsewhere, and must not move a score here."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.preprocessing import TargetEncoder

from etl_ml.lake import Lake
from etl_ml.spec import Pipeline
from etl_ml.train import train
from etl_ml.transform import transform
from etl_ml.transform.preprocessor import Preprocessor
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import loans
from etl_ml_tests.train.stages import fit, judge, prepare
from etl_ml_tests.transform.frames import ROW, identified


def pipeline_with(columns: dict[str, Any], **sections: Any) -> Pipeline:
    given = {**columns, "defaulted": {"type": "integer", "allowed": [0, 1]}}
    return make_pipeline(contract={"columns": given}, **sections)


def noise(rows: int, levels: int) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    return pl.DataFrame(
        {
            "shop": [f"shop {n}" for n in rng.integers(0, levels, rows)],
            "age": rng.integers(18, 90, rows),
            "defaulted": rng.integers(0, 2, rows),
        }
    )


def test_tiny_groups_under_target_encoding_promise_nothing(lake: Lake) -> None:
    # Encoded by their own rows, groups of three give a training AUC near 0.9 from noise alone.
    columns = {"shop": {"type": "category"}, "age": {"type": "integer"}}
    training = {"candidates": ["lightgbm"], "metric": "roc_auc", "folds": 5}
    pipeline = pipeline_with(columns, training=training)
    made = judge(lake, pipeline, fit(lake, pipeline, prepare(lake, pipeline, noise(1500, 500))))
    report = made["model_evaluation"].read("evaluation_report.json")
    assert report["overfit"]["cross_validated"] == pytest.approx(0.5, abs=0.06)
    assert report["metrics"]["test"]["roc_auc"]["value"] == pytest.approx(0.5, abs=0.1)
    assert abs(report["overfit"]["difference"]) < 0.1


def test_a_rows_encoding_is_learned_without_its_unit_and_the_rest_is_scikit_learns() -> None:
    frame = noise(600, 40)
    y, units = frame["defaulted"].to_numpy(), np.arange(600) // 3
    ours = Preprocessor({"shop": "category"}, encode="target")
    train_side = ours.fit_transform(frame, y, units)
    peer = TargetEncoder(target_type="binary").fit(frame.select("shop").to_numpy(), y)
    expected = peer.transform(frame.select("shop").to_numpy())
    assert np.allclose(ours.transform(frame), expected, atol=1e-6)
    flipped = y.copy()
    flipped[:3] = 1 - flipped[:3]
    again = Preprocessor({"shop": "category"}, encode="target").fit_transform(frame, flipped, units)
    # A unit's own targets change other rows' encodings, and not its own.
    assert np.array_equal(train_side[:3], again[:3])
    assert not np.array_equal(train_side, again)


def test_wild_test_rows_move_nothing_that_is_learned() -> None:
    rows = identified(loans())
    columns = ["age", "country", "opened"]
    pipeline = make_pipeline(
        split={"strategy": "stratified"},
        features={"exclude": ["income"], "numeric": {"impute": "mean", "scale": "standard"}},
    )
    tame = transform(rows.lazy(), pipeline)
    test = pl.col(ROW).is_in(tame.test_rows.tolist())
    wild = rows.with_columns(income=pl.when(test).then(1e9).otherwise(pl.col("income")))
    spoilt = transform(wild.lazy(), pipeline)
    assert list(tame.preprocessor.columns) == columns
    assert np.array_equal(tame.train_features, spoilt.train_features)
    assert np.array_equal(tame.test_features, spoilt.test_features)


def test_copies_of_rows_do_not_flatter_the_score(lake: Lake) -> None:
    rows = noise(500, 5).with_columns(age=pl.int_range(500))
    columns = {"shop": {"type": "category"}, "age": {"type": "integer"}}
    copied = pl.concat([rows, rows])
    training = {"candidates": ["decision_tree"], "metric": "roc_auc"}
    pipeline = pipeline_with(columns, training=training)
    made = prepare(lake, pipeline, copied)
    board = train(made["transformed_arrays"], pipeline).leaderboard
    assert board[0]["mean"] == pytest.approx(0.5, abs=0.1)
