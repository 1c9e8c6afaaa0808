"""Rows in JSON: records, split and columnar, as pandas, MLflow and Azure ML write them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson

from etl_ml.serve.refused import Refused
from etl_ml.serve.rows import Rows, bounded_count, missing, unreadable
from etl_ml.spec.error import bounded, listed

if TYPE_CHECKING:
    from etl_ml.serve.signature import Signature

RECORDS = ("rows", "records", "instances", "dataframe_records")
SPLIT = ("dataframe_split", "input_data")
COLUMNAR = ("inputs",)
# What clients of other servers send along, and what says nothing about rows.
BESIDE = ("params", "parameters", "signature_name")

_MORE_COLUMNS = 8
_FORMS = 'a list of records, {"rows": [..]}, {"columns": [..], "data": [..]} or {"column": [..]}'


def parse_json(body: bytes, most: int) -> Any:
    """The document in a body.

    Parameters
    ----------
    most : values that it may hold, by its commas: a few bytes make an object of sixty

    Raises
    ------
    Refused
        It is no JSON (RFC 8259, so no NaN), nested more than 1,024 deep, or holds too much.
    """
    if len(body) > most and body.count(b",") > most:
        raise Refused(
            "the body holds more values than are read.",
            reason="too_many_rows",
            expected=f"up to {most:,} values with commas between",
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        constant = next((c for c in (b"NaN", b"Infinity") if c in body[error.pos - 1 :][:12]), b"")
        raise unreadable(
            f"the body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            f"null: JSON has no {constant.decode()}" if constant else "JSON in UTF-8",
        ) from None


def most_values(signature: Signature, rows: int) -> int:
    """Values that a request of so many rows may hold: a name and a few columns more than needed."""
    return rows * (len(signature.inputs) + len(signature.ignored) + _MORE_COLUMNS)


def read_json(body: bytes, signature: Signature, most: int) -> Rows:
    """The rows in a body.

    Parameters
    ----------
    signature : of the model, whose columns a record may not lack
    most : rows that are answered at once

    Raises
    ------
    Refused
        The body is no JSON, of no known form, or has too many rows.
    """
    inputs = signature.inputs
    document = parse_json(body, most_values(signature, most))
    if isinstance(document, list):
        return _records(document, inputs, most)
    if not isinstance(document, dict):
        raise unreadable("the body is neither a list nor an object.", _FORMS)
    if document.keys() >= set(inputs):
        return _columnar(document, most)
    for key in (*RECORDS, *SPLIT, *COLUMNAR):
        if key in document:
            others = [name for name in document if name != key and name not in BESIDE]
            if others:
                raise unreadable(f"{bounded(others[0])} stands beside {key!r}.", f"{key!r} alone")
            inner = document[key]
            if key in RECORDS:
                return _records(inner, inputs, most)
            return _split(inner, most) if key in SPLIT else _columnar(inner, most)
    if "columns" in document and "data" in document:
        return _split(document, most)
    return _columnar(document, most)


def _records(records: Any, inputs: Collection[str], most: int) -> Rows:
    if not isinstance(records, list):
        raise unreadable("the rows are no list.", "a list of records")
    count = bounded_count(len(records), most)
    for place, record in enumerate(records):
        if type(record) is not dict:
            raise unreadable(
                f"row {place} is no object with columns by name.",
                'records: {"column": value}',
                place,
            )
    first = records[0]
    if count == 1:
        return Rows({name: [cell] for name, cell in first.items()}, 1)
    if len(first) > 1 and set(map(len, records)) == {len(first)}:
        with suppress(KeyError):  # as many cells, and of each name one: the names are the same
            cells = zip(*map(itemgetter(*first), records), strict=True)
            return Rows(dict(zip(first, map(list, cells), strict=True)), count)
    _check_complete(records, inputs)
    names = dict.fromkeys(chain.from_iterable(records))
    return Rows({name: [record.get(name) for record in records] for name in names}, count)


def _check_complete(records: list[dict[str, Any]], inputs: Collection[str]) -> None:
    """A column that stands in some rows stands in all: what is left out may be misspelt."""
    for place, record in enumerate(records):
        for name in inputs:
            if name not in record:
                raise missing(name, [other for other in record if other not in inputs], place)


def _split(document: Any, most: int) -> Rows:
    if not isinstance(document, dict) or not document.keys() >= {"columns", "data"}:
        raise unreadable("there are no `columns` and `data`.", '{"columns": [..], "data": [[..]]}')
    others = document.keys() - {"columns", "data", "index", *BESIDE}
    if others:
        raise unreadable(
            f"{bounded(min(others))} stands beside `columns`.", "columns and data alone"
        )
    names, data = document["columns"], document["data"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise unreadable("`columns` is no list of names.", "a list of names")
    if len(set(names)) < len(names):
        raise unreadable("`columns` names a column twice.", "each column once")
    if not isinstance(data, list):
        raise unreadable("`data` is no list of rows.", "a list of rows")
    count = bounded_count(len(data), most)
    for place, row in enumerate(data):
        if type(row) is not list or len(row) != len(names):
            raise unreadable(
                f"row {place} has not one cell for each column.", f"{len(names)} cells a row", place
            )
    return Rows(dict(zip(names, map(list, zip(*data, strict=True)), strict=True)), count)


def _columnar(document: Any, most: int) -> Rows:
    if not isinstance(document, dict) or not document:
        raise unreadable("there are no columns.", _FORMS)
    columns: dict[str, list[Any]] = {}
    index: Mapping[str, Any] | None = None
    count = -1
    for name, given in document.items():
        cells = given
        if type(cells) is dict:  # as DataFrame.to_json() writes it: {"column": {"0": cell}}
            index = cells if index is None else index
            if cells.keys() != index.keys():
                raise unreadable(f"column {bounded(name)} has other rows.", "equal rows")
            cells = [cells[key] for key in index]
        elif type(cells) is not list:
            raise unreadable(f"column {bounded(name)} is no list of cells.", _FORMS)
        if count == -1:
            count = bounded_count(len(cells), most)
        elif len(cells) != count:
            raise unreadable(
                f"column {bounded(name)} has {len(cells):,} cells, and "
                f"{listed(map(bounded, list(columns)), 1)} {count:,}.",
                "columns of one length",
            )
        columns[name] = cells
    return Rows(columns, count)
