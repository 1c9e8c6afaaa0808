"""What a document had that its cells cannot hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import ORIGINAL
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import WITHOUT_SCHEMA, FileSource, MongoSource
from etl_ml.spec.stream import Stream

if TYPE_CHECKING:
    import polars as pl

HELD = "_etl_ml_held"
UNKNOWN = "_etl_ml_unknown"
NO_MESSAGE = "(message)"
_NO_DOCUMENT = "(row)"


def look_into_originals(rows: pl.LazyFrame, pipeline: Pipeline) -> pl.LazyFrame:
    """Two lists of text more: the contracted columns that an original has a value for, and the
    names of its fields that are not contracted, when the contract wants none.

    Both are null where the cells hold the row as it was, which is nearly everywhere.
    """
    import polars as pl

    source = pipeline.source
    strict = pipeline.contract.unknown_columns == "fail"
    strict = strict and isinstance(source, WITHOUT_SCHEMA)
    stream = isinstance(source, Stream)
    own = source.implied if stream else ()  # columns that no field of a message fills
    names = [name for name in pipeline.contract.columns if name not in own]
    roots = {*names, *(name.partition(".")[0] for name in names)}
    if isinstance(source, MongoSource):
        roots.add("_id")

    def found(text: str) -> dict[str, list[str]]:
        document = json.loads(text)
        if stream and document is None:
            return {HELD: [], UNKNOWN: []}
        if not isinstance(document, dict):
            return {HELD: [], UNKNOWN: [NO_MESSAGE if stream else _NO_DOCUMENT]}
        held = [n for n in names if _value(document, n) is not None]
        return {HELD: held, UNKNOWN: [n for n in document if n not in roots] if strict else []}

    def lists(originals: pl.Series) -> pl.Series:
        values = [None if text is None else found(text) for text in originals]
        return pl.Series(originals.name, values, kind)

    kind = pl.Struct({HELD: pl.List(pl.String), UNKNOWN: pl.List(pl.String)})
    looked = pl.col(ORIGINAL).map_batches(lists, return_dtype=kind, is_elementwise=True)
    return rows.with_columns(looked.alias(HELD)).with_columns(
        pl.col(HELD).struct.field(UNKNOWN), pl.col(HELD).struct.field(HELD)
    )


def has_originals(pipeline: Pipeline) -> bool:
    """Whether the source is one whose rows may not fit into cells."""
    return not isinstance(pipeline.source, FileSource)


def original_cells(originals: Iterable[str | None], name: str) -> list[str]:
    """What documents had in a column, as text; without those that have nothing there."""
    documents = [json.loads(text) for text in originals if text is not None]
    values = [_value(d, name) for d in documents if isinstance(d, dict)]
    return [v if isinstance(v, str) else json.dumps(v) for v in values if v is not None]


def _value(document: Mapping[str, Any], name: str) -> Any:
    if name in document:
        return document[name]
    value: Any = document
    for part in name.split("."):
        if value is None:
            return None
        if not isinstance(value, dict):
            return value  # a scalar where a document was contracted
        value = value.get(part)
    return value
