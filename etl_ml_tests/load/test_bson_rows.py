"""Documents from columns, against pymongo's own decoder."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import bson
import polars as pl
from bson.codec_options import CodecOptions

from etl_ml.load.bson_rows import documents
from etl_ml.spec.contract import Column

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def decoded(columns: dict[str, str], **cells: list[Any]) -> list[dict[str, Any]]:
    frame = pl.DataFrame({name.replace("__", "."): values for name, values in cells.items()})
    raw = documents(frame, {n: Column(type=t) for n, t in columns.items()})  # type: ignore[arg-type]
    options: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
    return [bson.decode(one, options) for one in raw]


def test_names_with_dots_are_nested_documents() -> None:
    kinds = {"a": "integer", "home.city": "string", "b": "float", "home.at.time": "datetime"}
    found = decoded(
        kinds, a=[1, 2], home__city=["Ulm", None], b=[0.5, None], home__at__time=[NOW, None]
    )
    assert found == [
        {"a": 1, "home": {"city": "Ulm", "at": {"time": NOW}}, "b": 0.5},
        {"a": 2, "home": {"city": None, "at": {"time": None}}, "b": None},
    ]


def test_a_name_whose_root_is_a_column_too_stays_as_it_is() -> None:
    assert decoded({"a": "integer", "a.b": "integer"}, a=[1], a__b=[2]) == [{"a": 1, "a.b": 2}]
