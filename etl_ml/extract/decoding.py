"""BSON to Arrow, strictly: what a contracted type cannot hold exactly is kept as it was.

pymongoarrow decodes a batch in C. Asked for an integer it turns 3.7 into 3, and null where a
document is not one, without a word; so integers are read as doubles and compared, and rows without
any of a document's fields are looked at again. A batch with anything unusual in it is decoded once
more by pymongo, document by document.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import ORIGINAL
from etl_ml.spec.contract import TEXTS, Column, ColumnType

if TYPE_CHECKING:
    import pyarrow as pa

ID = "_id"
_EXACT = 2**53
_LARGEST = 2**63
# By contracted type, the BSON types that it may be stored as; the first is tried first.
_STORED: dict[ColumnType, tuple[str, ...]] = {
    "integer": ("number", "decimal"),
    "float": ("number", "decimal"),
    "boolean": ("boolean",),
    "string": ("text", "id", "decimal"),
    "category": ("text", "id", "decimal"),
    "datetime": ("moment",),
    "date": ("moment",),
}
_MISSING = object()


class Unusual(Exception):
    """A batch that has to be decoded document by document."""


class Decoder:
    """Turns raw batches of BSON documents into record batches.

    Parameters
    ----------
    columns : contracted columns; a name with dots reaches into nested documents
    strict : whether a field that is not contracted makes the document a bad one

    Attributes
    ----------
    schema : the columns in their types (datetimes in microseconds, UTC; `_id` as text where it is
        not contracted), then `_etl_ml_original`: relaxed extended JSON of a document that has a
        value, or a field, that its type cannot hold; null for all others
    """

    def __init__(self, columns: Mapping[str, Column], *, strict: bool) -> None:
        import pyarrow as pa

        self._implied = ID not in columns
        implied = {ID: Column(type="string")} if self._implied else {}
        self._columns = implied | dict(columns)
        self._roots = set(roots(self._columns))
        self._parents = {
            name[:at] for name in self._columns for at, sign in enumerate(name) if sign == "."
        }
        self._strict = strict
        self._stored = {name: _STORED[column.type][0] for name, column in self._columns.items()}
        if self._implied:
            self._stored[ID] = "id"
        types: dict[ColumnType, pa.DataType] = {
            "integer": pa.int64(),
            "float": pa.float64(),
            "boolean": pa.bool_(),
            "datetime": pa.timestamp("us", "UTC"),
            "date": pa.timestamp("us", "UTC"),
        }
        fields = [(n, types.get(c.type, pa.string())) for n, c in self._columns.items()]
        self.schema = pa.schema([*fields, (ORIGINAL, pa.string())])

    def batch(self, raw: bytes) -> pa.RecordBatch:
        """The documents of one raw batch, in order."""
        import pyarrow as pa

        try:
            columns = self._decoded(raw)
        except Unusual:
            return self._document_by_document(raw)
        original = pa.nulls(len(columns[0]), pa.string())
        return pa.RecordBatch.from_arrays([*columns, original], schema=self.schema)

    def _decoded(self, raw: bytes) -> list[pa.Array]:
        found = _arrays(raw, self._builders(), self._strict)
        if found.keys() - self._roots:
            raise Unusual
        columns = {name: _reach(found, name) for name in self._columns}
        self._look_at_parents(raw, columns)
        return [self._exact(raw, name, column) for name, column in columns.items()]

    def _builders(self, whole: str | None = None) -> dict[str, Any]:
        """The nested schema that pymongoarrow is asked for; `whole` is read as an integer."""
        import pyarrow as pa

        with warnings.catch_warnings():
            # Its wheel was built against another patch release of pyarrow.
            warnings.filterwarnings("ignore", "pyarrow.lib", RuntimeWarning)
            from pymongoarrow.types import Decimal128Type, ObjectIdType

        types = {
            "number": pa.float64(),
            "decimal": Decimal128Type(),
            "boolean": pa.bool_(),
            "text": pa.string(),
            "id": ObjectIdType(),
            "moment": pa.timestamp("ms", "UTC"),
        }
        asked: dict[str, Any] = {}
        for name, stored in self._stored.items():
            *parents, leaf = name.split(".")
            level = asked
            for parent in parents:
                level = level.setdefault(parent, {})
            level[leaf] = pa.int64() if name == whole else types[stored]
        return asked

    def _look_at_parents(self, raw: bytes, columns: Mapping[str, pa.Array]) -> None:
        """A scalar or an array in a document's place reads as nulls."""
        import numpy as np

        for parent in self._parents:
            below = {name: c for name, c in columns.items() if name.startswith(f"{parent}.")}
            empty = [c.is_null().to_numpy(zero_copy_only=False) for c in below.values()]
            for document in _documents(raw, np.flatnonzero(np.logical_and.reduce(empty)).tolist()):
                if any(_value(document, name) is _MISSING for name in below):
                    raise Unusual

    def _exact(self, raw: bytes, name: str, column: pa.Array) -> pa.Array:
        """A decoded column in its contracted type.

        Raises
        ------
        Unusual
            A value is not of it.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        kind, stored = self._columns[name].type, self._stored[name]
        if stored == "id":
            return _hex(column)
        if stored == "decimal":
            values = [_converted(value, kind) for value in column.to_pylist()]
            if _MISSING in values:
                raise Unusual
            return pa.array(values, self.schema.field(name).type)
        if stored == "number" and kind == "integer":
            return self._integers(raw, name, column)
        if stored == "number" and _reach_of(column) >= _EXACT:
            # A double holds itself, but not every large integer.
            large = pc.fill_null(pc.greater_equal(pc.abs(column), float(_EXACT)), False)
            for document in _documents(raw, pc.indices_nonzero(large).to_pylist()):
                if _converted(_value(document, name), kind) is _MISSING:
                    raise Unusual
        return column.cast(self.schema.field(name).type)

    def _integers(self, raw: bytes, name: str, doubles: pa.Array) -> pa.Array:
        import pyarrow as pa

        try:
            whole = doubles.cast(pa.int64())
        except pa.ArrowInvalid:
            raise Unusual from None
        if _reach_of(whole) < _EXACT:
            return whole
        return _reach(_arrays(raw, self._builders(whole=name), False), name)

    def _document_by_document(self, raw: bytes) -> pa.RecordBatch:
        import bson
        import pyarrow as pa
        from bson import json_util
        from bson.codec_options import CodecOptions, DatetimeConversion

        options: CodecOptions[dict[str, Any]] = CodecOptions(
            tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
        )
        cells: dict[str, list[Any]] = {name: [] for name in self._columns}
        originals: list[str | None] = []
        seen: dict[str, dict[str, int]] = {name: {} for name in self._columns}
        for document in bson.decode_all(raw, options):
            bad = self._strict and not self._roots.issuperset(document)
            for name, column in self._columns.items():
                value = _value(document, name)
                stored = _stored_as(value)
                if stored:
                    seen[name][stored] = seen[name].get(stored, 0) + 1
                if name == ID and self._implied and stored not in ("id", "text"):
                    # Canonical, so that 5 and "5" are two.
                    converted: Any = json_util.dumps(
                        value, json_options=json_util.CANONICAL_JSON_OPTIONS
                    )
                else:
                    converted = _converted(value, column.type)
                bad = bad or converted is _MISSING
                cells[name].append(None if converted is _MISSING else converted)
            originals.append(json_util.dumps(document) if bad else None)
        self._learn(seen)
        arrays = [pa.array(cells[n], self.schema.field(n).type) for n in self._columns]
        return pa.RecordBatch.from_arrays(
            [*arrays, pa.array(originals, pa.string())], schema=self.schema
        )

    def _learn(self, seen: Mapping[str, Mapping[str, int]]) -> None:
        """Ask for what most values of a column are stored as, if its type allows that."""
        for name, counts in seen.items():
            known = {s: counts.get(s, 0) for s in _STORED[self._columns[name].type]}
            best = max(known, key=lambda stored: known[stored])
            if known[best]:
                self._stored[name] = best


def _arrays(raw: bytes, asked: Mapping[str, Any], discover: bool) -> dict[str, pa.Array]:
    """The decoded fields by name; with `discover` also those that were not asked for.

    Raises
    ------
    Unusual
        A value is not of the type asked for.
    """
    from bson.codec_options import CodecOptions
    from bson.errors import InvalidBSON
    from pymongoarrow.context import PyMongoArrowContext, _parse_builder_map
    from pymongoarrow.lib import BuilderManager
    from pymongoarrow.schema import Schema

    context = PyMongoArrowContext(Schema(dict(asked)), CodecOptions(), allow_invalid=False)
    manager = context.manager
    if discover:
        manager = BuilderManager(context.schema_map, False, None, allow_invalid=False)
    try:
        manager.process_bson_stream(raw, len(raw))
    except (TypeError, ValueError, InvalidBSON):
        raise Unusual from None
    found: dict[str, pa.Array] = _parse_builder_map(manager.finish())
    return found


def _reach(found: Mapping[str, pa.Array], name: str) -> pa.Array:
    import pyarrow.compute as pc

    root, *path = name.split(".")
    return pc.struct_field(found[root], path) if path else found[root]


def _reach_of(column: pa.Array) -> float:
    """The largest absolute value; 0 where there is none."""
    import pyarrow.compute as pc

    ends = pc.min_max(column).as_py()
    return max(abs(ends["min"]), abs(ends["max"])) if ends["min"] is not None else 0


def _hex(column: pa.Array) -> pa.Array:
    """ObjectIds as text of 24 hexadecimal digits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    if storage.null_count:
        filled = storage.fill_null(bytes(12))
        return pc.if_else(storage.is_valid(), _hex(filled), pa.scalar(None, pa.string()))
    start = 12 * storage.offset
    data = memoryview(storage.buffers()[-1])[start : start + 12 * len(storage)]
    digits = pa.py_buffer(data.hex().encode())
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(24), len(storage), [None, digits])
    return fixed.cast(pa.binary()).cast(pa.string())


def _starts(raw: bytes) -> list[int]:
    """Where each document of a raw batch begins."""
    starts, at = [], 0
    while at < len(raw):
        starts.append(at)
        at += struct.unpack_from("<i", raw, at)[0]
    return starts


def _documents(raw: bytes, places: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The documents at some places of a raw batch."""
    import bson

    starts = _starts(raw) if len(places) else []
    for place in places:
        start = starts[place]
        yield bson.decode(raw[start : start + struct.unpack_from("<i", raw, start)[0]])


def last_id(raw: bytes) -> Any:
    """The `_id` of a raw batch's last document."""
    import bson

    return bson.decode(raw[_starts(raw)[-1] :])[ID]


def _value(document: Mapping[str, Any], name: str) -> Any:
    """A field's value, None where there is none, `_MISSING` where its parent is no document."""
    value: Any = document
    for part in name.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            return _MISSING
        value = value.get(part)
    return value


def _stored_as(value: Any) -> str | None:
    from bson import Decimal128, ObjectId

    for kind, stored in (
        (bool, "boolean"),
        ((int, float), "number"),
        (str, "text"),
        (ObjectId, "id"),
        (Decimal128, "decimal"),
        (datetime, "moment"),
    ):
        if isinstance(value, kind):
            return stored
    return None


def _converted(value: Any, kind: ColumnType) -> Any:
    """A value in its contracted type, `_MISSING` where that cannot hold it exactly."""
    from bson import Decimal128, ObjectId

    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if value is _MISSING:
        return _MISSING
    if isinstance(value, Decimal128):
        return _from_decimal(value, kind)
    if kind in TEXTS:
        if isinstance(value, ObjectId):
            return str(value)
        return str(value) if isinstance(value, str) else _MISSING
    if kind in ("datetime", "date"):
        return value if isinstance(value, datetime) else _MISSING
    if not isinstance(value, bool | int | float):
        return _MISSING
    if kind == "boolean":
        return bool(value) if isinstance(value, bool) or value in (0, 1) else _MISSING
    if kind == "integer":
        exact = math.isfinite(value) and value == int(value) and -_LARGEST <= value < _LARGEST
        return int(value) if exact else _MISSING
    return float(value) if float(value) == value else _MISSING


def _from_decimal(value: Any, kind: ColumnType) -> Any:
    from decimal import Decimal

    number = value.to_decimal()
    if kind in TEXTS:
        return str(value)
    if number.is_nan():
        return None
    if not number.is_finite():
        return _MISSING
    if kind == "integer":
        exact = abs(number) < _LARGEST and number == int(number)
        return int(number) if exact else _MISSING
    if kind == "float":
        # The nearest double, if its shortest text is the decimal: 1.10 is 1.1 there.
        return float(number) if Decimal(repr(float(number))) == number else _MISSING
    return _MISSING


def roots(names: Iterable[str]) -> list[str]:
    """The top-level fields that contracted names begin with."""
    return list(dict.fromkeys(name.partition(".")[0] for name in names))
