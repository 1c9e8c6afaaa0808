from __future__ import annotations

import hashlib
import re
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.spec import Pipeline
from etl_ml.transform import SplitError
from etl_ml.transform.split import leaks, split, unit_columns
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import loans
from etl_ml_tests.transform.frames import encoded_row

FEATURES = ("age", "income", "country", "opened")


def on_test_side(row: dict[str, object], columns: tuple[str, ...], seed: int, size: float) -> bool:
    """Keyed BLAKE2b-128 of the canonical encoding, its first 8 bytes as a share of 2^64."""
    digest = hashlib.blake2b(
        encoded_row(row, columns), digest_size=16, key=str(seed).encode()
    ).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < size


@pytest.mark.parametrize(("seed", "size"), [(42, 0.2), (7, 0.5)])
def test_each_side_is_the_keyed_hash_of_the_canonical_encoding(seed: int, size: float) -> None:
    rows = loans().with_columns(
        country=pl.when(pl.col("age") < 25).then(None).otherwise(pl.col("country") + "ßЖ"),
    )
    pipeline = make_pipeline(
        split={"seed": seed, "test_size": size},
        contract={"columns": _without_allowed()},
    )
    expected = [on_test_side(row, FEATURES, seed, size) for row in rows.to_dicts()]
    sides = split(rows, pipeline)
    assert sides.test.tolist() == expected
    assert (sides.columns, sides.unit) == (FEATURES, "features")


def _without_allowed() -> dict[str, Any]:
    columns = make_pipeline().model_dump(mode="json", exclude_defaults=True)["contract"]["columns"]
    columns["country"].pop("allowed")
    return dict(columns)


def test_negative_zero_and_composed_text_do_not_separate_equal_rows() -> None:
    rows = loans().with_columns(income=pl.lit(0.0), country=pl.lit("\u00e9"))
    other = rows.with_columns(income=pl.lit(-0.0), country=pl.lit("e\u0301"))
    pipeline = make_pipeline()
    assert split(rows, pipeline).test.tolist() == split(other, pipeline).test.tolist()


def test_rows_keep_their_side_when_rows_are_added_removed_and_reordered() -> None:
    rows = loans(900, seed=3)
    pipeline = make_pipeline()
    side = dict(zip(rows.rows(), split(rows, pipeline).test, strict=True))
    more = pl.concat([loans(300, seed=4), rows[::-1]])
    fewer = rows.sample(500, seed=1, shuffle=True)
    for changed in (more, fewer):
        found = dict(zip(changed.rows(), split(changed, pipeline).test, strict=True))
        shared = side.keys() & found.keys()
        assert len(shared) >= 500
        assert all(side[row] == found[row] for row in shared)


def test_another_seed_gives_another_split() -> None:
    rows = loans()
    first, second = (split(rows, make_pipeline(split={"seed": seed})).test for seed in (1, 2))
    # Two independent sides of 20 % disagree on 32 % of the rows.
    assert 0.25 < float((first != second).mean()) < 0.39


@cache
def _binary() -> Pipeline:
    columns = {name: {"type": "integer"} for name in "abcdefgh"} | {"y": {"type": "integer"}}
    return make_pipeline(contract={"columns": columns}, target={"column": "y"})


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(2, 4), missing=st.booleans())
def test_equal_feature_rows_are_never_on_both_sides(seed: int, levels: int, missing: bool) -> None:
    rng = np.random.default_rng(seed)
    names = list("abcdefgh")
    rows = pl.DataFrame(rng.integers(0, levels, (1500, 8)), schema=names, orient="row")
    if missing:
        rows = rows.with_columns(
            pl.when(pl.col("a") == 0).then(None).otherwise(pl.col("a")).alias("a")
        )
    rows = rows.with_columns(pl.Series("y", rng.integers(0, 2, 1500)))
    try:
        sides = split(rows, _binary())
    except SplitError:
        return  # two levels have 256 different rows, whose test share may be far off
    placed = rows.select(names).with_columns(test=sides.test, unit=sides.units)
    by_row = placed.group_by(names).agg(pl.col("test").n_unique(), pl.col("unit").n_unique())
    assert by_row["test"].max() == 1
    assert by_row["unit"].max() == 1
    assert by_row.height == placed["unit"].n_unique()


def test_the_key_is_the_unit_where_equal_rows_may_part() -> None:
    columns = {"id": {"type": "string"}, **_without_allowed()}
    contract = {"primary_key": ["id"], "columns": columns}
    pipeline = make_pipeline(contract=contract, split={"keep_duplicates_together": False})
    same = loans(1)
    rows = pl.concat([same] * 400).with_columns(
        pl.Series("id", [f"k{n}" for n in range(400)]),
        pl.Series("defaulted", [0, 1] * 200),
    )
    sides = split(rows, pipeline)
    assert (sides.unit, sides.columns) == ("primary_key", ("id",))
    expected = [on_test_side(row, ("id",), 42, 0.2) for row in rows.to_dicts()]
    assert sides.test.tolist() == expected
    assert len(np.unique(sides.units)) == 400
    together = make_pipeline(contract=contract)
    assert unit_columns(together) == ("features", FEATURES)
    with pytest.raises(SplitError):
        split(rows, together)


def test_a_key_that_is_dropped_is_no_unit_and_without_one_the_row_is() -> None:
    apart = {"keep_duplicates_together": False}
    assert unit_columns(make_pipeline(split=apart)) == ("row", FEATURES)
    contract = {"primary_key": ["id"], "columns": {"id": {"type": "string"}, **_without_allowed()}}
    dropped = make_pipeline(contract=contract, split=apart, cleaning={"drop_columns": ["id"]})
    assert unit_columns(dropped) == ("row", FEATURES)


def test_a_new_column_does_not_move_old_rows() -> None:
    rows = loans()
    before = split(rows, make_pipeline(contract={"columns": _without_allowed()}))
    previous = {"unit": before.unit, "columns": list(before.columns)}
    wider = make_pipeline(contract={"columns": {"city": {"type": "string"}, **_without_allowed()}})
    cities = rows.with_columns(pl.Series("city", [f"c{n}" for n in range(len(rows))]))
    assert split(cities, wider, previous).test.tolist() == before.test.tolist()
    assert split(cities, wider, previous).columns == FEATURES
    assert split(cities, wider).columns == ("city", *FEATURES)


def test_columns_that_are_gone_are_not_hashed_again() -> None:
    previous = {"unit": "features", "columns": [*FEATURES, "gone"]}
    assert split(loans(), make_pipeline(), previous).columns == FEATURES


def test_too_few_different_rows_on_a_side_are_refused_with_figures() -> None:
    rows = loans(120)
    test = sum(on_test_side(row, FEATURES, 42, 0.2) for row in rows.to_dicts())
    with pytest.raises(SplitError) as refused:
        split(rows, make_pipeline())
    assert "fewer than 30 different rows" in refused.value.what
    assert f"120 rows, {120 - test} different rows train, {test} test" in (refused.value.seen or "")


@pytest.mark.parametrize("count", [62, 80, 100, 140])
def test_what_a_refusal_advises_is_taken(count: int) -> None:
    rows = loans(count)
    with pytest.raises(SplitError) as refused:
        split(rows, make_pipeline(split={"test_size": 0.1}))
    advice = refused.value.fix or ""
    assert "split.strategy: stratified" in advice
    size = re.search(r"split.test_size: (0\.\d+)", advice)
    assert size
    split(rows, make_pipeline(split={"strategy": "stratified", "test_size": float(size[1])}))


def test_too_few_rows_for_any_split_are_told_with_how_many_it_takes() -> None:
    with pytest.raises(SplitError) as refused:
        split(loans(12), make_pipeline())
    assert "the sides need 60 different rows together, and there are 12" in str(refused.value)


def test_rows_that_are_all_alike_or_of_one_time_are_told_as_that() -> None:
    alike = pl.concat([loans(1)] * 200).with_columns(pl.Series("defaulted", [0, 1] * 100))
    with pytest.raises(SplitError, match="no feature varies: all 200 rows are alike"):
        split(alike, make_pipeline())
    timed = make_pipeline(split={"strategy": "time", "column": "opened"})
    rows = loans(200).with_columns(opened=pl.lit(date(2024, 1, 1)))
    with pytest.raises(SplitError, match="opened is the same in all 200 rows") as refused:
        split(rows, timed)
    assert "split.strategy: hash" in (refused.value.fix or "")


def test_few_groups_are_told_what_gives_both_sides_enough() -> None:
    columns = {"shop": {"type": "string"}, **_without_allowed()}
    pipeline = make_pipeline(
        contract={"columns": columns}, split={"strategy": "group", "column": "shop"}
    )
    rows = loans(600).with_columns(pl.Series("shop", [f"s{n // 60}" for n in range(600)]))
    with pytest.raises(SplitError) as refused:
        split(rows, pipeline)
    assert "8 groups train, 2 test" in (refused.value.seen or "")
    assert "set split.test_size: 0.5" in (refused.value.fix or "")
    with pytest.raises(SplitError) as refused:
        split(rows.filter(pl.col("shop").is_in(["s0", "s1"])), pipeline)
    assert "1 group train, 1 test" in (refused.value.seen or "")
    assert "need 10 groups together, and there are 2" in (refused.value.fix or "")


def test_a_test_share_that_is_off_by_half_is_refused_with_figures() -> None:
    rows = loans(1000)
    testing = next(r for r in rows.to_dicts() if on_test_side(r, FEATURES, 42, 0.2))
    flooded = pl.concat([rows, pl.DataFrame([testing] * 500, schema=rows.schema)])
    share = np.mean([on_test_side(row, FEATURES, 42, 0.2) for row in flooded.to_dicts()])
    with pytest.raises(SplitError) as refused:
        split(flooded, make_pipeline())
    assert "repeated so often" in refused.value.what
    assert f"test share {share:.1%} of rows" in (refused.value.seen or "")
    assert "primary_key" in (refused.value.fix or "")


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_class_that_one_side_lacks_is_refused_by_name(side: str) -> None:
    rows = loans()
    rare = np.array([on_test_side(r, FEATURES, 42, 0.2) for r in rows.to_dicts()])
    labels = np.where(rare if side == "train" else ~rare, 1, 0)
    with pytest.raises(SplitError, match=f"no {side} row is of class 1"):
        split(
            rows.with_columns(pl.Series("defaulted", np.where(labels == 1, [0, 1] * 300, 0))),
            make_pipeline(),
        )


def test_leaks_counts_the_values_on_both_sides_once() -> None:
    assert leaks(["a", "b", "b"], ["b", "c"]) == 1
    assert leaks(np.array([b"a"]), np.array([b"c"])) == 0
