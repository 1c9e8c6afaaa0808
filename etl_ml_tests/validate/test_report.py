"""The validation report as a page that a person can read."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl_ml.spec import Pipeline
from etl_ml.validate import drift, validate
from etl_ml.validate.report import number, report_html, share, text
from etl_ml_tests.conftest import make_pipeline

VOID = {"meta", "rect"}
HOSTILE = "<script>alert('x')</script>\x00\u202e" + "é" * 10_000


class Page(HTMLParser):
    """Text by element; fails where a tag is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        if tag not in VOID and tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def rows(n: int, shift: float = 0.0, bad: str = "x", prefix: str = "n") -> pl.LazyFrame:
    rng = np.random.default_rng(1)
    return pl.LazyFrame(
        {
            "age": [str(v) for v in rng.integers(18, 90, n - 3)] + [bad, "200", ""],
            "income": (rng.normal(100, 20, n) + shift).astype(str),
            "name": [HOSTILE, *(f"level {i % 4}" for i in range(n - 1))],
            "secret": [f"hidden {i}" for i in range(n)],
            "defaulted": [str(i % 2) for i in range(n)],
            "_etl_ml_row": [f"{prefix}{i:031x}-0" for i in range(n)],
            "_etl_ml_original": pl.Series([None] * n, dtype=pl.String),
        }
    )


def pipeline_of(**validation: Any) -> Pipeline:
    columns = {
        "age": {"type": "integer", "nullable": False, "min": 18, "max": 100},
        "income": {"type": "float"},
        "name": {"type": "string"},
        "secret": {"type": "string", "sensitive": True, "pattern": "^hidden"},
        "defaulted": {"type": "integer", "allowed": [0, 1]},
    }
    return make_pipeline(contract={"columns": columns}, validation=validation)


def page_of(pipeline: Pipeline, now: pl.LazyFrame, then: pl.LazyFrame | None) -> str:
    found = validate(now, pipeline)
    known = validate(then, pipeline).valid if then is not None else None
    told = drift(found.valid, known, pipeline, version="0000000007", sample=found.sample)
    return report_html(pipeline, found.report, told, found.profile)


def test_the_page_tells_the_verdict_the_broken_rules_the_drift_and_every_column() -> None:
    page = page_of(pipeline_of(), rows(900, shift=15), rows(900, prefix="o"))
    shown = Page(page)
    told = shown.text
    assert "Passed; 3 of 900 rows break the contract" in told
    for part in ("Broken rules", "max", "nullable", "200", "1 of 5 columns have drifted: income"):
        assert part in told
    for name in ("age", "income", "name", "secret", "defaulted"):
        assert name in shown.texts
    assert "version 0000000007" in told
    assert {"svg", "th", "dl"} <= set(shown.tags)
    assert all(
        "aria-label" in a for t, a in zip(shown.tags, shown.attributes, strict=True) if t == "svg"
    )
    assert "src" not in {key for a in shown.attributes for key in a}
    assert "script" not in shown.tags
    assert "hidden" not in told
    assert "\x00" not in page
    assert "\u202e" not in page
    assert len(page) < 40_000


def test_a_stopped_run_says_why_first() -> None:
    told = Page(page_of(pipeline_of(max_quarantined=0.001), rows(900), None)).text
    assert told.index("Stopped: nothing downstream was changed.") < told.index("rows read")
    assert "validation.max_quarantined is 0.1%" in told
    assert "no reference yet" in told


def test_drift_that_stops_is_the_verdict() -> None:
    pipeline = pipeline_of(drift={"on_drift": "fail"})
    told = Page(page_of(pipeline, rows(900, shift=90), rows(900, prefix="o"))).text
    assert told.index("Stopped") < told.index("rows read")
    assert "Drift: 1 of 5 columns" in told


@pytest.mark.parametrize("n", [4, 700])
def test_equal_input_gives_an_equal_page(n: int) -> None:
    pipeline = pipeline_of(max_quarantined=1.0, min_rows=0)
    assert page_of(pipeline, rows(n), None) == page_of(pipeline, rows(n), None)


def test_three_hundred_columns_fit_into_a_megabyte() -> None:
    rng = np.random.default_rng(0)
    names = [f"column_with_a_long_name_{i}" for i in range(300)]
    columns = {n: {"type": "float"} for n in names} | {"defaulted": {"type": "integer"}}
    pipeline = make_pipeline(contract={"columns": columns})
    frame = pl.LazyFrame({n: rng.normal(size=500) for n in names}).with_columns(
        defaulted=pl.int_range(pl.len()) % 2,
        _etl_ml_row=pl.int_range(pl.len()).cast(pl.String),
        _etl_ml_original=pl.lit(None, pl.String),
    )
    page = page_of(pipeline, frame, None)
    assert all(f">{name}<" in page for name in names)
    assert len(page) < 1_000_000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234567, "1,234,567"),
        (0.0, "0"),
        (12.0, "12"),
        (3.14159, "3.142"),
        (12345.678, "12,345.7"),
        (1e9, "1.000e+09"),
        (-0.00001, "-1.000e-05"),
        (None, "–"),
        ("2020-01-01", "2020-01-01"),
        (True, "True"),
    ],
)
def test_numbers_are_for_people(value: Any, shown: str) -> None:
    assert number(value) == shown


def test_shares_and_texts_are_bounded() -> None:
    assert (share(0), share(0.0004), share(0.1234), share(1)) == (
        "0.0 %",
        "< 0.1 %",
        "12.3 %",
        "100.0 %",
    )
    assert text("a\x00b\u202e") == "a\\x00b\\x202e"
    assert len(text("x" * 500)) == 80
