"""What rows amount to: the same in any order and width, and the sum of what follows each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_ml.lake import Contents, Lake
from etl_ml.lake.content import Counted, comparable, content_of, counted, together
from etl_ml.lake.growing import Increment

FRAME = pl.DataFrame(
    {
        "i": [1, None, -3],
        "f": [0.5, float("nan"), None],
        "s": ["a", "é", None],
        "l": [["x"], [], None],
        "t": [{"q": 1}, {"q": None}, None],
        "b": [True, None, False],
    }
)


def of(frame: pl.DataFrame) -> str:
    return content_of(frame.lazy())


def test_the_order_of_rows_and_columns_and_the_width_of_types_do_not_count() -> None:
    assert of(FRAME[::-1]) == of(FRAME)
    assert of(FRAME.select(reversed(FRAME.columns))) == of(FRAME)
    narrow = FRAME.with_columns(pl.col("i").cast(pl.Int8), pl.col("f").cast(pl.Float32))
    assert of(narrow.with_columns(pl.col("s").cast(pl.Categorical))) == of(FRAME)


@pytest.mark.parametrize(
    "other",
    [
        FRAME.head(2),
        pl.concat([FRAME, FRAME]),
        FRAME.with_columns(i=pl.Series([None, 1, -3])),
        FRAME.rename({"i": "j"}),
        FRAME.rename({"i": "f", "f": "i"}),
        FRAME.with_columns(b=pl.Series([True, False, False])),
        FRAME.with_columns(l=pl.Series([["x"], [""], None])),
        FRAME.drop("b"),
        FRAME.clear(),
    ],
    ids=["fewer", "twice", "cells moved", "name", "names", "null", "list", "column", "none"],
)
def test_other_rows_amount_to_something_else(other: pl.DataFrame) -> None:
    assert of(other) != of(FRAME)


@given(st.lists(st.tuples(st.integers(-9, 9), st.text("ab", max_size=2))), st.integers(0, 20))
def test_rows_that_follow_add_up(rows: list[tuple[int, str]], cut: int) -> None:
    frame = pl.DataFrame(rows, {"x": pl.Int64, "y": pl.String}, orient="row")
    assert together(of(frame[:cut]), of(frame[cut:])) == of(frame)


def test_what_cannot_be_added_is_not() -> None:
    assert together(None, of(FRAME)) is None
    assert together(of(FRAME.drop("i")), of(FRAME)) is None
    other = "polars-0.1" + of(FRAME)[of(FRAME).index(":") :]
    assert together(other, of(FRAME)) is None
    assert not comparable(other, of(FRAME))
    assert not comparable(None, of(FRAME))


class Batches:
    def __init__(self, frame: pl.DataFrame) -> None:
        self.table = frame.to_arrow()
        self.schema = self.table.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield from self.table.to_batches(max_chunksize=2)


def test_batches_are_counted_as_they_pass_however_often() -> None:
    rows = Counted(Batches(FRAME))
    with pytest.raises(ValueError, match="not passed yet"):
        _ = rows.content
    for _ in range(2):
        assert sum(batch.num_rows for batch in rows) == 3
        assert rows.content == of(FRAME)
    with counted(FRAME.lazy().filter(pl.col("i") > 0)) as found:
        assert found.content == of(FRAME.head(1))
        assert found.file is not None


def grow(*frames: pl.DataFrame) -> Any:
    left = list(frames)

    def following(head: object) -> Increment:
        return Increment(Batches(left.pop(0)), {"left": len(left)})

    return following


def test_a_table_that_grows_knows_what_it_amounts_to(lake: Lake) -> None:
    frame = pl.DataFrame({"x": [1, 2, 3, 4], "y": ["a", None, "c", "d"]})
    wider = frame.with_columns(z=pl.col("x") * 2)
    follow = grow(frame[:1], frame[1:3], wider[3:], frame[:0])
    for rows in (frame[:1], frame[:3]):
        version = lake.write("p", "a", Contents(grow=follow))
        assert version.manifest.table is not None
        assert version.manifest.table.content == of(rows)
    expected = pl.concat([frame[:3], wider[3:]], how="diagonal")
    for _ in range(2):
        version = lake.write("p", "a", Contents(grow=follow))
        assert version.manifest.table is not None
        assert version.manifest.table.content == of(expected) == version.table.content()
