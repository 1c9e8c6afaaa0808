from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

from etl_ml.lake.estimator import dump_estimator, load_estimator
from etl_ml.spec.contract import Column
from etl_ml.spec.transformation import Features
from etl_ml.train.trusted import PREPROCESSOR
from etl_ml.transform.notes import column_notes
from etl_ml.transform.preprocessor import Preprocessor, UnusableFrame

RNG = np.random.default_rng(5)
SECRET = "hunter2@example.org"


def numbers(rows: int, *, missing: bool = True) -> pd.DataFrame:
    """Three numeric columns with ties and gaps, one of them skewed."""
    frame = pd.DataFrame(
        {
            "count": RNG.integers(-3, 4, rows).astype(float),
            "wide": RNG.lognormal(3, 2, rows),
            "narrow": RNG.normal(1000, 0.1, rows).round(2),
        }
    )
    if missing:
        frame = frame.mask(RNG.random(frame.shape) < 0.1)
    return frame


TRAIN, TEST = numbers(400), numbers(150)
NUMERIC = {"count": "float", "wide": "float", "narrow": "float"}
SCALERS: dict[str, Any] = {
    "none": FunctionTransformer(),
    "standard": StandardScaler(),
    "robust": RobustScaler(),
    "minmax": MinMaxScaler(),
}


def close(found: Any, expected: Any) -> bool:
    return np.allclose(found, expected, rtol=1e-6, atol=1e-6)


def one(values: Any, kind: str = "float", **options: Any) -> np.ndarray[Any, Any]:
    """The features of a column's own training values."""
    frame = pl.DataFrame({"x": values})
    y = np.arange(len(frame)) % 2
    return Preprocessor({"x": kind}, **options).fit(frame, y).transform(frame)


@pytest.mark.parametrize("scale", SCALERS)
@pytest.mark.parametrize("impute", ["mean", "median", "most_frequent", "constant"])
def test_imputing_and_scaling_are_scikit_learns(impute: str, scale: str) -> None:
    peer = make_pipeline(SimpleImputer(strategy=impute, fill_value=0.0), clone(SCALERS[scale]))
    ours = Preprocessor(NUMERIC, numeric_impute=impute, scale=scale).fit(TRAIN)
    peer.fit(TRAIN)
    for side in (TRAIN, TEST):
        found = ours.transform(side)
        assert found.dtype == np.float32
        assert close(found, np.asarray(peer.transform(side), np.float32))
    assert list(ours.get_feature_names_out()) == list(NUMERIC)


@pytest.mark.parametrize("action", ["clip", "null"])
@pytest.mark.parametrize(("method", "factor"), [("iqr", 1.5), ("iqr", 3.0), ("zscore", 2.0)])
def test_outlier_limits_are_numpys_and_come_before_imputing(
    method: str, factor: float, action: str
) -> None:
    values = TRAIN.to_numpy()
    if method == "iqr":
        q1, q3 = np.nanquantile(values, [0.25, 0.75], axis=0)
        low, high = q1 - factor * (q3 - q1), q3 + factor * (q3 - q1)
    else:
        mean, reach = np.nanmean(values, axis=0), factor * np.nanstd(values, axis=0)
        low, high = mean - reach, mean + reach

    def limited(side: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        inside = (side >= low) & (side <= high)
        return np.clip(side, low, high) if action == "clip" else np.where(inside, side, np.nan)

    assert (np.isfinite(values) & (values != np.clip(values, low, high))).any()
    fill = np.nanmean(limited(values), axis=0)
    ours = Preprocessor(
        NUMERIC,
        numeric_impute="mean",
        outliers=method,
        outlier_factor=factor,
        outlier_action=action,
    ).fit(TRAIN)
    for side in (TRAIN, TEST):
        expected = limited(side.to_numpy())
        assert close(ours.transform(side), np.where(np.isnan(expected), fill, expected))


CITIES = pd.DataFrame({"city": ["Rome", "Bonn", "Rome", None, "Łódź", "bonn", "Bonn", "Rome"]})
ASKED = pd.DataFrame({"city": ["bonn", None, "Oslo", "Łódź", "Rome"]})


@pytest.mark.parametrize("impute", ["most_frequent", "constant"])
@pytest.mark.parametrize("encode", ["one_hot", "ordinal"])
def test_encoding_is_scikit_learns_unseen_categories_included(encode: str, impute: str) -> None:
    peer = make_pipeline(
        SimpleImputer(strategy=impute, fill_value="", missing_values=None),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        if encode == "one_hot"
        else OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    ).fit(CITIES)
    ours = Preprocessor({"city": "category"}, encode=encode, categorical_impute=impute).fit(CITIES)
    for side in (CITIES, ASKED):
        assert close(ours.transform(side), peer.transform(side))
    if encode == "one_hot":
        levels = peer[-1].categories_[0]
        assert list(ours.get_feature_names_out()) == [f"city={level}" for level in levels]


@pytest.mark.parametrize(("levels", "features"), [(20, 20), (21, 1)])
def test_auto_is_one_hot_up_to_twenty_categories_and_one_number_above(
    levels: int, features: int
) -> None:
    assert one([f"level {n:02}" for n in range(levels)], "category").shape[1] == features


def test_ties_for_the_most_frequent_go_to_the_smallest_as_in_scikit_learn() -> None:
    texts = pd.DataFrame({"x": ["b", "a", None, "a", "b"]}, dtype=object)
    peer = SimpleImputer(strategy="most_frequent", missing_values=None).fit(texts)
    assert Preprocessor({"x": "string"}).fit(texts).learned_["x"]["fill"] == peer.statistics_[0]
    assert one([3.0, 2.0, None, 2.0, 3.0], numeric_impute="most_frequent")[2, 0] == 2.0


def test_parts_of_dates_are_pandas_in_utc() -> None:
    moments = pd.Series(
        pd.to_datetime(
            ["1969-12-31T23:59:59.5", "2024-02-29T12:30:00", "2026-11-23T00:00:00", None],
            format="ISO8601",
        )
    )
    parts = ["year", "month", "day", "day_of_week", "hour"]
    local = pd.DataFrame({"at": moments.dt.tz_localize("UTC").dt.tz_convert("Asia/Kolkata")})
    ours = Preprocessor({"at": "datetime"}, datetime_parts=parts).fit(local)
    utc = moments.dt
    expected = np.column_stack([utc.year, utc.month, utc.day, utc.dayofweek + 1, utc.hour])
    expected[np.isnan(expected)] = -1
    assert close(ours.transform(local), expected)
    assert close(ours.transform(pd.DataFrame({"at": moments})), expected)
    assert list(ours.get_feature_names_out()) == [f"at.{part}" for part in parts]


def test_a_date_has_no_hour() -> None:
    days = pl.DataFrame({"x": ["2026-11-23", None]}).with_columns(pl.col("x").str.to_date())
    ours = Preprocessor({"x": "date"}).fit(days)
    assert list(ours.get_feature_names_out()) == ["x.year", "x.month", "x.day_of_week"]
    assert ours.transform(days).tolist() == [[2026, 11, 1], [-1, -1, -1]]


def mixed(rows: int = 60) -> pl.DataFrame:
    """A column of every type, each with gaps."""
    step = pl.int_range(rows, eager=True)
    frame = pl.DataFrame(
        {
            "integer": step % 7,
            "float": (step * 0.37) % 5,
            "boolean": step % 3 == 0,
            "string": pl.Series(["a", "b", "c"] * (rows // 3)),
            "category": pl.Series(["x", "y"] * (rows // 2)),
            "datetime": (step * 3_600_000_000).cast(pl.Datetime("us", "UTC")),
            "date": step.cast(pl.Int32).cast(pl.Date),
        }
    )
    gaps = [
        pl.when((pl.int_range(pl.len()) + place) % 10 > 0).then(pl.col(name)).alias(name)
        for place, name in enumerate(frame.columns)
    ]
    return frame.with_columns(gaps)


MIXED = {name: name for name in mixed().columns}


def frames_of(rows: pl.DataFrame) -> dict[str, Any]:
    """The same rows as different libraries and dtypes hold them."""
    plain = rows.to_pandas()
    nullable = plain.assign(
        integer=plain["integer"].astype("Int64"),
        float=plain["float"].astype("Float64"),
        boolean=plain["boolean"].astype("boolean"),
        string=plain["string"].astype("string"),
        category=plain["category"].astype("category"),
    )
    texts = rows.with_columns(
        pl.col("integer", "float").cast(pl.String),
        pl.col("boolean").cast(pl.String),
        pl.format(" {} ", pl.col("string")),
        pl.col("category").fill_null(""),
        pl.col("datetime").dt.to_string("iso"),
        pl.col("date").dt.to_string(),
    )
    return {
        "pandas": plain,
        "pandas nullable": nullable,
        "pandas objects": plain.astype(object).where(plain.notna(), None),
        "pandas arrow": rows.to_pandas(use_pyarrow_extension_array=True),
        "polars narrow": rows.with_columns(
            pl.col("integer").cast(pl.Int16),
            pl.col("category").cast(pl.Categorical),
            pl.col("string").cast(pl.Enum(["c", "a", "b"])),
            pl.col("datetime").dt.cast_time_unit("ns"),
        ),
        "polars text": texts,
        "another order": rows.select(rows.columns[::-1]),
        "more columns": rows.with_columns(pl.lit("noise").alias("noise")),
    }


@pytest.mark.parametrize("kind", frames_of(mixed()))
def test_equal_rows_give_equal_features_whatever_holds_them(kind: str) -> None:
    rows = mixed()
    ours = Preprocessor(MIXED, scale="standard").fit(rows)
    expected = ours.transform(rows)
    asked = frames_of(rows)[kind]
    assert np.array_equal(ours.transform(asked), expected)
    again = clone(ours).fit(asked)
    assert np.array_equal(again.transform(rows), expected)
    assert again.feature_names_out_ == ours.feature_names_out_


def test_one_row_gives_the_features_that_it_has_among_others() -> None:
    rows = mixed()
    ours = Preprocessor(MIXED).fit(rows)
    together = ours.transform(rows)
    alone = np.vstack([ours.transform(rows[place]) for place in range(10)])
    assert np.array_equal(alone, together[:10])
    assert ours.transform(rows.clear()).shape == (0, together.shape[1])


def test_nothing_is_learned_from_the_rows_that_are_transformed() -> None:
    ours = Preprocessor(NUMERIC | {"city": "category"}, scale="minmax", outliers="iqr")
    train = TRAIN.assign(city="Rome")
    ours.fit(train)
    before, learned = ours.transform(train), repr(ours.learned_)
    wild = (TEST * 1e9).assign(city="Atlantis")
    ours.transform(pd.concat([wild, train]))
    assert repr(ours.learned_) == learned
    assert np.array_equal(ours.transform(train), before)
    assert np.array_equal(ours.transform(pd.concat([wild, train]))[len(wild) :], before)


def test_an_unseen_category_is_nothing_one_hot_and_minus_one_ordinal() -> None:
    seen, asked = pl.DataFrame({"x": ["a", "b"]}), pl.DataFrame({"x": ["zebra"]})
    one_hot = Preprocessor({"x": "string"}, encode="one_hot").fit(seen).transform(asked)
    ordinal = Preprocessor({"x": "string"}, encode="ordinal").fit(seen).transform(asked)
    assert (one_hot.tolist(), ordinal.tolist()) == ([[0.0, 0.0]], [[-1.0]])


@pytest.mark.parametrize("scale", SCALERS)
def test_columns_without_any_value_give_zeros(scale: str) -> None:
    empty = pl.DataFrame({name: [None, None, None] for name in ("integer", "float", "boolean")})
    ours = Preprocessor({name: name for name in empty.columns}, scale=scale).fit(empty)
    assert ours.transform(empty).tolist() == [[0.0] * 3] * 3
    typed = empty.with_columns(pl.lit(7).alias("integer"))
    assert np.isfinite(ours.transform(typed)).all()


@pytest.mark.parametrize(("encode", "width"), [("one_hot", 0), ("ordinal", 1), ("auto", 0)])
def test_a_category_without_any_value_has_no_level(encode: str, width: int) -> None:
    empty = pl.DataFrame({"x": [None, None]}, schema={"x": pl.String})
    ours = Preprocessor({"x": "category"}, encode=encode).fit(empty)
    assert ours.transform(pl.DataFrame({"x": ["a", None]})).tolist() == [[-1.0] * width] * 2


def test_a_category_without_any_level_leaves_its_neighbours_features_alone() -> None:
    rows = pl.DataFrame({"x": [None, None], "y": [1.0, 2.0]}, schema_overrides={"x": pl.String})
    ours = Preprocessor({"x": "category", "y": "float"}, encode="one_hot").fit(rows)
    assert ours.transform(rows).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("scale", ["standard", "robust", "minmax"])
@pytest.mark.parametrize("spread", [5e-324, 1e-310, 1e-17, 1e-15, 1e-14])
def test_a_column_that_is_nearly_constant_is_scaled_as_scikit_learn_does(
    scale: str, spread: float
) -> None:
    column = np.linspace(0, spread, 9)[:, None]
    peer = clone(SCALERS[scale]).fit_transform(column)
    assert np.allclose(one(column.ravel(), scale=scale), peer, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.0, -7.3, 1e15, 1e-300, 123456.789])
@pytest.mark.parametrize("scale", ["standard", "robust", "minmax"])
def test_a_constant_column_is_centred_and_not_blown_up(scale: str, value: float) -> None:
    column = np.full((17, 1), value)
    peer = clone(SCALERS[scale]).fit_transform(column)
    assert np.allclose(one(column.ravel(), scale=scale), peer, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"scale": s} for s in SCALERS]
    + [
        {"outliers": "iqr"},
        {"outliers": "zscore"},
        {"numeric_impute": "mean"},
        {"outliers": "zscore", "outlier_action": "null", "scale": "standard"},
    ],
    ids=str,
)
def test_huge_numbers_stay_finite_and_in_order(options: dict[str, str]) -> None:
    found = one([1e308, -1e308, 1e308, 0.0, 5.0, None], **options)
    assert np.isfinite(found).all()
    if options.get("outlier_action") != "null":
        assert found[1, 0] < found[3, 0] <= found[4, 0] < found[0, 0]


def test_whole_numbers_beyond_float32_are_rounded_and_not_refused() -> None:
    assert one([2**62, -(2**62)], "integer").ravel().tolist() == [2.0**62, -(2.0**62)]


def test_columns_whose_feature_names_meet_are_all_there_under_names_of_their_own() -> None:
    rows = pl.DataFrame({"a": ["b=c", "z"], "a=b": ["c", "d"], "a=z": [1.0, 2.0]})
    ours = Preprocessor({"a": "string", "a=b": "string", "a=z": "float"}).fit(rows)
    assert ours.transform(rows).tolist() == [[1, 0, 1, 0, 1], [0, 1, 0, 1, 2]]
    assert len(set(ours.feature_names_out_)) == 5
    assert ours.source_of() == ["a", "a", "a=b", "a=b", "a=z"]


def test_missing_columns_are_named_with_the_nearest() -> None:
    ours = Preprocessor({"income": "float", "age": "float"}).fit(
        pl.DataFrame({"income": [1.0], "age": [1.0]})
    )
    with pytest.raises(UnusableFrame) as refused:
        ours.transform(pl.DataFrame({"incom": [1.0], "years": [1.0]}))
    assert "no column 'income', 'age'" in refused.value.what
    assert refused.value.close == "'incom'"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("integer", [1, "two"]),
        ("integer", pl.Series([1.5, 2.0])),
        ("integer", ["1", "2x"]),
        ("float", ["1.0", "abc"]),
        ("float", pl.Series([float("inf")])),
        ("boolean", [0, 2]),
        ("datetime", ["2026-13-01"]),
        ("date", ["yesterday"]),
        ("integer", [b"a", b"b"]),
        ("string", pl.Series([[1], [2]])),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused_and_its_column_named(kind: str, values: Any) -> None:
    good = {
        "integer": 1,
        "float": 1.0,
        "boolean": True,
        "string": "a",
        "datetime": None,
        "date": None,
    }
    ours = Preprocessor({"x": kind}).fit(pl.DataFrame({"x": [good[kind]]}))
    frame = (
        pl.DataFrame({"x": values})
        if isinstance(values, pl.Series)
        else pd.DataFrame({"x": values})
    )
    with pytest.raises(UnusableFrame, match=f"column 'x' holds a value that is not of type {kind}"):
        ours.transform(frame)


def test_a_column_that_stands_twice_is_refused() -> None:
    ours = Preprocessor({"x": "float"}).fit(pl.DataFrame({"x": [1.0]}))
    with pytest.raises(UnusableFrame, match="two columns 'x'"):
        ours.transform(pd.DataFrame([[1.0, 2.0]], columns=["x", "x"]))


def test_sensitive_values_are_in_no_feature_name_and_no_message() -> None:
    people = pl.DataFrame({"mail": [SECRET, "b@example.org"], "age": [1, 2]})
    columns = {
        "mail": Column(type="string", sensitive=True),
        "age": Column(type="integer", sensitive=True),
    }
    ours = Preprocessor.of(columns, Features()).fit(people)
    assert ours.feature_names_out_ == ["mail=#1", "mail=#2", "age"]
    for frame in (
        people.with_columns(age=pl.lit(SECRET)),
        pd.DataFrame({"mail": ["b"] * 2, "age": [1, SECRET]}),
        pd.DataFrame({"mail": [1, SECRET], "age": [1.5, 2]}),
        people.with_columns(age=pl.lit([SECRET])),
    ):
        with pytest.raises(UnusableFrame) as refused:
            ours.transform(frame)
        chain = [refused.value, refused.value.__cause__]
        assert not any("hunter2" in str(error) for error in chain)
        assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_value_that_is_not_sensitive_is_shown() -> None:
    ours = Preprocessor({"age": "integer"}).fit(pl.DataFrame({"age": [1]}))
    with pytest.raises(UnusableFrame) as refused:
        ours.transform(pl.DataFrame({"age": ["forty"]}))
    assert refused.value.seen == "'forty'"


def test_a_clone_is_unfitted_and_learns_the_same() -> None:
    ours = Preprocessor(MIXED, scale="robust", sensitive=("string",)).fit(mixed())
    fresh = clone(ours)
    assert fresh.get_params() == ours.get_params()
    assert not hasattr(fresh, "learned_")
    assert np.array_equal(fresh.fit(mixed()).transform(mixed()), ours.transform(mixed()))


def test_a_stored_preprocessor_is_the_same_bytes_and_the_same_features() -> None:
    ours = Preprocessor(MIXED, scale="standard").fit(mixed())
    data = dump_estimator(ours)
    assert data == dump_estimator(clone(ours).fit(mixed()))
    loaded = load_estimator(data, trusted=PREPROCESSOR)
    assert np.array_equal(loaded.transform(mixed()), ours.transform(mixed()))


def test_transforming_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Preprocessor(MIXED).fit(mixed()).transform(mixed())


def test_numbers_beyond_float32_are_clipped_and_can_be_centred() -> None:
    frame = pl.DataFrame({"x": [1e300, -1e300, 3.0, 4.0] * 10})
    ours = Preprocessor({"x": "float"}).fit(frame)
    features = ours.transform(frame)
    assert np.isfinite(StandardScaler().fit_transform(features)).all()
    told = column_notes(frame, ours)["x"]["notes"]
    assert "20 values beyond" in told[0]


@pytest.mark.parametrize(
    "given", [np.zeros((2, 1)), [{"x": 1}], None, pl.Series([1]), pl.LazyFrame({"x": [1]})]
)
def test_what_is_no_frame_is_refused_by_its_type_alone(given: Any) -> None:
    ours = Preprocessor({"x": "float"}).fit(pl.DataFrame({"x": [1.0, 2.0]}))
    with pytest.raises(UnusableFrame, match="the frame is a "):
        ours.transform(given)


def test_an_arrow_table_is_a_frame_and_its_values_are_in_no_message() -> None:
    ours = Preprocessor({"mail": "string"}, sensitive=["mail"])
    rows = pl.DataFrame({"mail": [SECRET, "b"]})
    ours.fit(rows)
    assert np.array_equal(ours.transform(rows.to_arrow()), ours.transform(rows))
    with pytest.raises(UnusableFrame) as told:
        ours.transform(rows.rename({"mail": "other"}).to_arrow())
    assert SECRET not in str(told.value)
