"""Plain Python and columns give the same features, or plain Python gives none."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from etl_ml.lake.documents import dump_json
from etl_ml.serve.checked import Checker
from etl_ml.serve.compiled import Compiled
from etl_ml.serve.refused import Refused
from etl_ml.serve.rows import Rows
from etl_ml.serve.vectors import Vectors
from etl_ml.spec.contract import Column
from etl_ml.transform.learned import preprocessor_document, read_document
from etl_ml.transform.preprocessor import Preprocessor

Array = np.ndarray[Any, Any]

NULLS = ("", "NA", "?")
KINDS = ("integer", "float", "boolean", "string", "category", "datetime", "date")
WORDS = ["a", "b", "B", "łódź", "日本", "a b", "nan", "0", "{{7*7}}", "'; DROP TABLE x; --"]
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28))
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e3, 1e3).map(lambda x: round(x, 2)),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 3.5e38, -3.5e38, 5e-324, 2.0**53, 0.1]),
)
whole = st.one_of(st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1))
text = st.one_of(st.sampled_from([*WORDS, *NULLS]), st.text(max_size=4))

TRAINED: dict[str, st.SearchStrategy[Any]] = {
    "integer": whole,
    "float": numbers,
    "boolean": st.booleans(),
    "string": st.sampled_from(WORDS),
    "category": st.text("abc", min_size=1, max_size=2),
    "datetime": moments.map(lambda at: at.replace(tzinfo=UTC)),
    "date": moments.map(lambda at: at.date()),
}
DTYPES: dict[str, Any] = {
    "integer": pl.Int64,
    "float": pl.Float64,
    "boolean": pl.Boolean,
    "string": pl.String,
    "category": pl.String,
    "datetime": pl.Datetime("us", "UTC"),
    "date": pl.Date,
}
offsets = st.sampled_from(["", "Z", "+00:00", "+05:30", "-11:00", "+14:00"])
# What JSON may hold, right or wrong for any type.
strange: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), whole, numbers, text, st.integers(), st.just([]), st.just({}),
    st.sampled_from(["", " ", "\u2003", "\x1c", " a ", "1", "1.5", "true", "2026-02-30"]),
    st.sampled_from(["NA", " ? "]),
    st.sampled_from([math.inf, -math.inf, math.nan]),
)  # fmt: skip
ASKED: dict[str, st.SearchStrategy[Any]] = {
    "integer": whole | st.integers(-(2**60), 2**60).map(float),
    "float": numbers | whole,
    "boolean": st.booleans() | st.sampled_from([0, 1]),
    "string": text,
    "category": text | st.text("abc ", max_size=3),
    "datetime": st.tuples(moments, st.sampled_from(["T", " "]), offsets).map(
        lambda it: it[0].isoformat(it[1]) + it[2]
    )
    | moments.map(lambda at: at.date().isoformat()),
    "date": moments.map(lambda at: at.date().isoformat()),
}
IN_TEXT = {
    "integer": st.integers(-(10**17), 10**17).map(str),
    "float": st.floats(-1e9, 1e9).map(lambda x: f"{x:.6f}") | st.integers(-99, 99).map(str),
    "boolean": st.sampled_from(["true", "false", "0", "1"]),
}
options = st.fixed_dictionaries(
    {
        "numeric_impute": st.sampled_from(["mean", "median", "most_frequent", "constant"]),
        "add_indicator": st.booleans(),
        "scale": st.sampled_from(["none", "standard", "robust", "minmax"]),
        "outliers": st.sampled_from(["none", "iqr", "zscore"]),
        "outlier_factor": st.sampled_from([0.5, 1.5, 3.0]),
        "outlier_action": st.sampled_from(["clip", "null"]),
        "categorical_impute": st.sampled_from(["most_frequent", "constant"]),
        "encode": st.sampled_from(["auto", "one_hot", "ordinal", "target"]),
        "datetime_parts": st.just(["year", "month", "day", "day_of_week", "hour"]),
        "classes": st.sampled_from([0, 2, 3]),
    }
)


def limits(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Rules that a column of the type may have."""
    none: st.SearchStrategy[dict[str, Any]] = st.just({})
    if kind in ("integer", "float"):
        bound = whole if kind == "integer" else numbers.filter(lambda x: abs(x) < 1e300)
        return none | bound.map(lambda x: {"min": x}) | bound.map(lambda x: {"max": x})
    if kind in ("string", "category"):
        some = st.lists(st.sampled_from(WORDS), min_size=1, unique=True)
        return st.one_of(
            none,
            some.map(lambda words: {"allowed": words}),
            st.just({"pattern": r"^\w+$"}),
            st.just({"pattern": r"^\d$"}),
            st.integers(1, 3).map(lambda size: {"max_length": size}),
        )
    if kind in ("datetime", "date"):
        return none | st.just({"min": "2000-01-01"}) | st.just({"max": "2000-01-01"})
    return none


@dataclass(frozen=True)
class Case:
    """A column to learn from, its contract, and cells to ask for."""

    kind: str
    trained: list[Any]
    options: dict[str, Any]
    column: Column
    rows: Rows

    def features(self) -> tuple[Array | None, Array | None, Array | Refused]:
        """From plain Python, from vectors, and from columns."""
        size, frame = len(self.trained), pl.Series("x", self.trained, DTYPES[self.kind]).to_frame()
        preprocessor = Preprocessor({"x": self.kind}, **self.options)
        preprocessor.fit(frame, np.arange(size) % max(2, self.options["classes"]))
        learned = read_document(json.loads(dump_json(preprocessor_document(preprocessor))))
        compiled = Compiled({"x": self.column}, NULLS, learned)
        found = compiled.features(self.rows)
        many = Vectors({"x": self.column}, learned, compiled.cells).features(self.rows)
        try:
            checked = Checker({"x": self.column}, NULLS).frame(self.rows)
        except Refused as refused:
            return found, many, refused
        expected = preprocessor.transform(checked)
        assert np.array_equal(learned.features(checked), expected)
        return found, many, expected


@st.composite
def cases(draw: st.DrawFn, kind: str, wild: bool) -> Case:
    trained = draw(st.lists(st.none() | TRAINED[kind], min_size=3, max_size=12))
    as_text = draw(st.booleans())
    cell = ASKED[kind] if not as_text else IN_TEXT.get(kind, ASKED[kind])
    nothing = "" if as_text else None
    rules = {"nullable": True}
    if wild:
        cell = text if as_text else strange
        rules = {"nullable": draw(st.booleans()), **draw(limits(kind))}
    asked = draw(st.lists(st.just(nothing) | cell, min_size=1, max_size=4))
    return Case(
        kind,
        trained,
        draw(options),
        Column(type=kind, **rules),
        Rows({"x": asked}, len(asked), text=as_text),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_plain_python_gives_the_features_of_the_columns_or_none(kind: str) -> None:
    @settings(max_examples=250, deadline=None)
    @given(case=cases(kind, wild=True))
    def both(case: Case) -> None:
        *quick, expected = case.features()
        if isinstance(expected, Refused):
            note(expected.what)
            assert quick == [None, None]
            return
        for found in quick:
            if found is not None:
                assert found.dtype == np.float32
                assert np.array_equal(found, expected)

    both()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_plainly_right_is_answered_in_plain_python(kind: str) -> None:
    @settings(max_examples=100, deadline=None)
    @given(case=cases(kind, wild=False))
    def both(case: Case) -> None:
        found, many, expected = case.features()
        assert not isinstance(expected, Refused)
        assert found is not None
        assert np.array_equal(found, expected)
        # Text that stands for values, and numbers that no float64 holds, are left to columns.
        assert many is not None or case.rows.text or kind in ("integer", "float", "boolean")
        if many is not None:
            assert np.array_equal(many, expected)

    both()


def test_features_of_several_columns_stand_in_the_order_of_the_columns() -> None:
    rows = pl.DataFrame(
        {
            "b": ["u", "v", "u"],
            "a": [1.0, 2.0, None],
            "c": [True, None, False],
            "d": ["2001-01-01", "2002-03-04", None],
            "e": [1, 2, 2],
            "f": pl.Series([None, None, None], dtype=pl.String),
        }
    )
    kinds = {"a": "float", "f": "string", "b": "category", "c": "boolean", "d": "date"}
    kinds["e"] = "integer"
    options: dict[str, Any] = {"scale": "standard", "outliers": "iqr", "encode": "one_hot"}
    preprocessor = Preprocessor(kinds, add_indicator=True, **options).fit(rows)
    inputs = {name: Column(type=kind) for name, kind in kinds.items()}  # type: ignore[arg-type]
    compiled = Compiled(inputs, NULLS, preprocessor.fitted)
    asked = Rows(rows.to_dict(as_series=False), 3)
    vectors = Vectors(inputs, preprocessor.fitted, compiled.cells)
    expected = preprocessor.transform(rows)
    for found in (compiled.features(asked), vectors.features(asked)):
        assert found is not None
        assert np.array_equal(found, expected)


def test_numbers_that_are_plainly_right_are_a_matrix() -> None:
    kinds = {"a": "float", "b": "integer", "c": "boolean"}
    rows = pl.DataFrame({"a": [1.5, None, -3.0], "b": [1, 2, None], "c": [True, None, False]})
    preprocessor = Preprocessor(kinds).fit(rows)
    inputs = {
        "a": Column(type="float", min=-3, max=9),
        "b": Column(type="integer", allowed=(1, 2)),
        "c": Column(type="boolean"),
    }
    compiled = Compiled(inputs, NULLS, preprocessor.fitted)
    vectors = Vectors(inputs, preprocessor.fitted, compiled.cells)
    found = vectors.features(Rows(rows.to_dict(as_series=False), 3))
    assert found is not None
    assert np.array_equal(found, preprocessor.transform(rows))
    for name, cell in {"a": 9.5, "b": 3, "c": 1}.items():
        wrong = rows.to_dict(as_series=False) | {name: [cell] * 3}
        assert vectors.features(Rows(wrong, 3)) is None
