"""Rejected rows over all versions, and trying them again."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_ml.lake import Contents, Lake
from etl_ml.spec import Pipeline
from etl_ml.validate import outstanding, quarantines, validate, with_history
from etl_ml_tests.conftest import make_pipeline

COLUMNS = {
    "id": {"type": "integer"},
    "x": {"type": "integer", "max": 9},
    "defaulted": {"type": "integer", "allowed": [0, 1]},
}


def pipeline_of(most: int, *, key: bool = True) -> Pipeline:
    columns = COLUMNS | {"x": {"type": "integer", "max": most}}
    contract = {"columns": columns, "primary_key": ["id"] if key else []}
    return make_pipeline(contract=contract, validation={"max_quarantined": 1.0, "min_rows": 0})


def raw(rows: dict[int, Any], kind: Any = pl.String) -> pl.DataFrame:
    """One row an id, with x as it was read."""
    ids = list(rows)
    return pl.DataFrame(
        {
            "id": [str(i) for i in ids],
            "x": pl.Series([rows[i] for i in ids], dtype=kind),
            "defaulted": [str(i % 2) for i in ids],
            "_etl_ml_row": [f"{i:032x}-0" for i in ids],
            "_etl_ml_original": [None] * len(ids),
        },
        schema_overrides=dict.fromkeys(
            ("id", "defaulted", "_etl_ml_row", "_etl_ml_original"), pl.String
        ),
    )


def run(lake: Lake, rows: pl.DataFrame, most: int, *, replay: bool = False) -> dict[int, int]:
    """One run into the lake; the valid ids and their x."""
    pipeline, frame = pipeline_of(most), rows.lazy()
    if replay:
        frame = with_history(frame, [v.table.scan() for v in quarantines(lake, "loans")])
    found = validate(frame, pipeline)
    report = found.report
    parts = (report["valid_rows"], report["quarantined_rows"], report["superseded_rows"])
    assert sum(parts) == report["rows"]
    lake.write("loans", "quarantined_data", Contents(found.quarantined))
    lake.write("loans", "validated_data", Contents(found.valid))
    return dict(found.valid.select("id", "x").collect().iter_rows())


def left(lake: Lake) -> dict[int, list[str]]:
    rows = outstanding(lake, "loans")
    ids = [int(row[:32], 16) for row in rows["_etl_ml_row"]]
    return dict(zip(ids, rows["_reasons"].to_list(), strict=True))


def test_a_row_is_outstanding_until_it_or_a_newer_one_of_its_key_has_passed(lake: Lake) -> None:
    run(lake, raw({1: "5", 2: "50", 3: "70", 4: "x"}), most=9)
    assert left(lake) == {2: ["x: max"], 3: ["x: max"], 4: ["x: type"]}
    run(lake, raw({1: "5", 2: "7", 5: "99"}), most=9)  # 2 was mended, 3, 4 are gone
    assert left(lake) == {3: ["x: max"], 4: ["x: type"], 5: ["x: max"]}
    run(lake, raw({2: "80"}), most=9)  # and it is bad again
    assert left(lake)[2] == ["x: max"]
    seen = outstanding(lake, "loans").row(by_predicate=pl.col("_etl_ml_row").str.contains("2-0"))
    assert seen[-2:] == ("0000000003", "0000000001")


def test_a_replay_moves_what_passes_now_and_trying_again_changes_nothing(lake: Lake) -> None:
    run(lake, raw({1: "5", 2: "50", 3: "700"}), most=9)
    run(lake, raw({1: "6", 4: "60", 5: "x"}), most=9)
    now = raw({1: "6", 4: "60", 5: "x"})
    once = run(lake, now, most=99, replay=True)
    assert once == {1: 6, 2: 50, 4: 60}
    assert left(lake) == {3: ["x: max"], 5: ["x: type"]}
    assert run(lake, now, most=99, replay=True) == once
    assert left(lake) == {3: ["x: max"], 5: ["x: type"]}


def test_a_row_whose_key_was_read_anew_is_not_tried_again(lake: Lake) -> None:
    run(lake, raw({1: "50"}), most=9)
    assert run(lake, raw({1: "3"}), most=99, replay=True) == {1: 3}


def test_rows_that_were_read_in_other_types_are_tried_as_text(lake: Lake) -> None:
    run(lake, raw({1: 50, 2: 3}, pl.Int64), most=9)
    run(lake, raw({3: "70"}), most=9)
    found = run(lake, raw({4: 80.0, 5: 4.5}, pl.Float64), most=99, replay=True)
    assert found == {1: 50, 3: 70, 4: 80}
    assert left(lake) == {5: ["x: type"]}


def test_columns_that_came_or_went_are_null_or_left_out(lake: Lake) -> None:
    old = raw({1: "50"}).with_columns(gone=pl.lit("z"))
    history = validate(
        old.lazy(), pipeline_of(9).model_copy(update={"contract": keeping(9)})
    ).quarantined
    now = raw({2: "1"}).with_columns(new=pl.lit("n"))
    rows = with_history(now.lazy(), [history]).collect().sort("id")
    assert rows.columns == now.columns
    assert rows["new"].to_list() == [None, "n"]


def keeping(most: int) -> Any:
    return pipeline_of(most).contract.model_copy(update={"unknown_columns": "keep"})


IDS = st.dictionaries(st.integers(0, 8), st.integers(0, 30), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(IDS, min_size=1, max_size=4), st.integers(0, 30))
def test_no_row_of_any_run_is_lost_by_a_replay(runs: list[dict[int, int]], most: int) -> None:
    history: list[pl.LazyFrame] = []
    for rows in runs:
        frame = raw({i: str(x) for i, x in rows.items()})
        history.insert(0, validate(frame.lazy(), pipeline_of(9)).quarantined.collect().lazy())
    tried = with_history(frame.lazy(), history)
    wanted = {i: x for rows in runs for i, x in rows.items() if x > 9} | runs[-1]
    again = None
    for _ in range(2):
        found = validate(tried, pipeline_of(most))
        valid = dict(found.valid.select("id", "x").collect().iter_rows())
        bad = found.quarantined.select("id", "x").collect()
        assert valid == {i: x for i, x in wanted.items() if x <= most}
        assert {int(i): int(x) for i, x in bad.iter_rows()} == {
            i: x for i, x in wanted.items() if x > most
        }
        assert again in (None, valid)
        again = valid
        tried = with_history(frame.lazy(), [found.quarantined, *history])


def test_without_a_changed_contract_a_replay_of_the_latest_run_changes_nothing(lake: Lake) -> None:
    rows = raw({1: "5", 2: "50"})
    assert run(lake, rows, most=9) == run(lake, rows, most=9, replay=True)
