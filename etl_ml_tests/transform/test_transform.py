from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.preprocessing import StandardScaler

from etl_ml.transform import Arrays, SplitError, rows_of, transform
from etl_ml.transform.split import Sides, split
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import loans
from etl_ml_tests.transform.frames import ROW, identified

ROWS = identified(loans())


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return transform(ROWS.lazy(), make_pipeline())


def saved(arrays: Arrays) -> dict[str, bytes]:
    found = {}
    for name, content in arrays.files().items():
        buffer = io.BytesIO()
        if hasattr(content, "dtype"):
            np.save(buffer, content, allow_pickle=False)
        found[name] = buffer.getvalue() or repr(content).encode()
    return found


def test_every_row_is_on_one_side_with_its_own_label(arrays: Arrays) -> None:
    ids = np.concatenate([arrays.train_rows, arrays.test_rows])
    assert sorted(ids) == sorted(ROWS[ROW])
    labels = dict(zip(ROWS[ROW], ROWS["defaulted"], strict=True))
    for rows, target in (
        (arrays.train_rows, arrays.train_target),
        (arrays.test_rows, arrays.test_target),
    ):
        assert target.dtype == np.int64
        assert [labels[row] for row in rows] == target.tolist()


def test_the_arrays_have_the_types_and_shapes_that_are_promised(arrays: Arrays) -> None:
    n, m, k = (
        len(arrays.train_rows),
        len(arrays.test_rows),
        len(arrays.files()["feature_names.json"]),
    )
    assert arrays.train_features.shape == (n, k)
    assert arrays.test_features.shape == (m, k)
    assert arrays.train_features.dtype == arrays.test_features.dtype == np.float32
    assert arrays.train_units.shape == (n,)
    assert not set(arrays.train_units) & set(arrays.test_units)
    assert arrays.problems == {}


def test_the_split_report_counts_what_is_there(arrays: Arrays) -> None:
    report = arrays.split
    for side, target, units in (
        ("train", arrays.train_target, arrays.train_units),
        ("test", arrays.test_target, arrays.test_units),
    ):
        assert report[side] == {
            "rows": len(target),
            "units": len(set(units)),
            "classes": np.bincount(target).tolist(),
        }
    assert report["columns"] == ["age", "income", "country", "opened"]
    assert (report["strategy"], report["seed"], report["test_size"]) == ("hash", 42, 0.2)


def test_the_order_of_the_table_changes_no_byte(arrays: Arrays) -> None:
    shuffled = transform(ROWS.sample(fraction=1, shuffle=True, seed=9).lazy(), make_pipeline())
    assert saved(shuffled) == saved(arrays)


def test_scaling_is_learned_from_training_rows_only() -> None:
    pipeline = make_pipeline(features={"numeric": {"scale": "standard"}})
    wild = _wild_test_rows(pipeline)
    tame = transform(ROWS.lazy(), pipeline)
    spoilt = transform(
        wild.lazy(), pipeline, {"unit": "features", "columns": ["age", "country", "opened"]}
    )
    place = tame.preprocessor.feature_names_out_.index("income")
    income = ROWS.sort(ROW).filter(pl.col(ROW).is_in(spoilt.train_rows.tolist()))["income"]
    expected = StandardScaler().fit_transform(income.to_numpy().reshape(-1, 1)).ravel()
    assert np.allclose(spoilt.train_features[:, place], expected, atol=1e-6)
    assert np.abs(spoilt.test_features[:, place]).max() > 1e6


def _wild_test_rows(pipeline: Any) -> pl.DataFrame:
    """Test rows with incomes that would move any statistic; sides by the other columns."""
    previous = {"unit": "features", "columns": ["age", "country", "opened"]}
    test = pl.Series(split(ROWS, pipeline, previous).test)
    return ROWS.with_columns(pl.when(test).then(1e12).otherwise(pl.col("income")).alias("income"))


@pytest.mark.parametrize(
    ("labels", "positive", "classes"),
    [
        (["no", "yes"], "yes", ["no", "yes"]),
        (["bad", "good"], "bad", ["good", "bad"]),
        ([0, 1], None, [0, 1]),
        ([0, 1], 0, [1, 0]),
        ([False, True], None, [False, True]),
        (["c", "a", "b"], None, ["a", "b", "c"]),
    ],
)
def test_of_two_labels_the_positive_one_is_last(
    labels: list[Any], positive: Any, classes: list[Any]
) -> None:
    kind = {str: "string", int: "integer", bool: "boolean"}[type(labels[0])]
    columns = make_pipeline().model_dump(mode="json", exclude_defaults=True)["contract"]["columns"]
    pipeline = make_pipeline(
        contract={"columns": columns | {"defaulted": {"type": kind}}},
        target={"positive": positive},
    )
    target = [labels[n % len(labels)] for n in range(len(ROWS))]
    rows = ROWS.with_columns(pl.Series("defaulted", target))
    found = transform(rows.lazy(), pipeline)
    assert found.classes == found.split["classes"] == classes
    told = dict(zip(rows[ROW], target, strict=True))
    assert [classes[place] for place in found.test_target] == [told[row] for row in found.test_rows]


def test_equal_rows_may_part_by_their_key_and_that_is_no_leak() -> None:
    columns = make_pipeline().model_dump(mode="json", exclude_defaults=True)["contract"]["columns"]
    pipeline = make_pipeline(
        contract={"primary_key": ["id"], "columns": {"id": {"type": "integer"}, **columns}},
        split={"keep_duplicates_together": False},
    )
    half = loans(300)
    rows = identified(
        pl.concat([half, half]).with_row_index("id").with_columns(pl.col("id").cast(pl.Int64))
    )
    found = transform(rows.lazy(), pipeline)
    assert found.split["unit"] == "primary_key"
    assert "id" not in found.preprocessor.columns
    assert found.problems == {}
    keep = transform(rows.lazy(), make_pipeline(contract={"columns": columns}))
    assert keep.split["train"]["units"] + keep.split["test"]["units"] == 300


def _planted(
    change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]],
) -> Callable[..., Sides]:
    def bad(*args: Any) -> Sides:
        sides = split(*args)
        return Sides(change(sides.test), sides.units, sides.columns, sides.unit)

    return bad


def test_the_leakage_check_catches_an_equal_feature_row_on_both_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = identified(pl.concat([loans(400), loans(400)[:1]]))
    twin = rows[-1].drop(ROW)
    assert not transform(rows.lazy(), make_pipeline()).problems
    places = rows.sort(ROW).drop(ROW).with_row_index().join(twin, on=twin.columns)["index"]
    assert len(places) == 2

    def apart(test: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        changed = test.copy()
        changed[places.to_list()] = [True, False]
        return changed

    module = import_module("etl_ml.transform.transform")
    monkeypatch.setattr(module, "split", _planted(apart))
    problems = transform(rows.lazy(), make_pipeline()).problems
    assert list(problems) == ["no_leakage"]
    assert problems["no_leakage"].startswith("0 rows, and 1 different feature rows")


def test_the_leakage_check_catches_a_row_that_stands_twice() -> None:
    half = identified(loans(300, seed=1))
    other = loans(300, seed=2).with_columns(half[ROW])
    problems = transform(
        pl.concat([half, other.select(half.columns)]).lazy(), make_pipeline()
    ).problems
    test = [set(side[ROW]) for side in _sides(half, other.select(half.columns))]
    assert problems["no_leakage"].startswith(f"{len(test[0] & test[1])} rows")


def _sides(*frames: pl.DataFrame) -> list[pl.DataFrame]:
    rows = pl.concat(frames)
    test = pl.Series(split(rows, make_pipeline()).test)
    return [rows.filter(test), rows.filter(~test)]


def test_features_that_are_not_finite_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from etl_ml.transform.preprocessor import Preprocessor

    honest = Preprocessor.transform

    def broken(self: Preprocessor, X: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        found = honest(self, X)
        found[0, self.feature_names_out_.index("income")] = np.inf
        return found

    monkeypatch.setattr(Preprocessor, "transform", broken)
    problems = transform(ROWS.lazy(), make_pipeline()).problems
    assert problems == {"finite": "features with NaN or infinite values: income."}


def test_rows_of_gives_the_rows_in_the_order_of_the_arrays(arrays: Arrays) -> None:
    found = rows_of(ROWS.sample(fraction=1, shuffle=True, seed=2).lazy(), arrays.test_rows)
    assert found[ROW].to_list() == arrays.test_rows.tolist()
    assert np.array_equal(arrays.preprocessor.transform(found), arrays.test_features)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(SplitError, match="loans: a side of the split has fewer than 30"):
        transform(ROWS.head(60).lazy(), make_pipeline())
