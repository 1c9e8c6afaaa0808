"""BSON documents straight from columns: no Python object for any cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl_ml.spec.contract import Column, ColumnType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

# bsonspec.org: the byte before an element's name
_TAGS: Mapping[ColumnType, bytes] = {
    "float": b"\x01",
    "string": b"\x02",
    "category": b"\x02",
    "boolean": b"\x08",
    "datetime": b"\x09",
    "date": b"\x09",
    "integer": b"\x12",
}
_NULL = b"\x0a"
_DAY = 86_400_000


class Document:
    """A document that is BSON already; PyMongo sends its bytes as they are."""

    __slots__ = ("raw",)
    _type_marker = 101  # what PyMongo knows its own RawBSONDocument by

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


def documents(frame: pl.DataFrame, columns: Mapping[str, Column | None]) -> list[bytes]:
    """Encode each row as one document.

    Parameters
    ----------
    columns : the fields in order, by the frame's column; None is a text. The name `_etl_ml_row`
        stays: rename it in `frame` to give documents their `_id`. Names with a dot become fields
        of nested documents, as they were read from them.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    parts: list[Any] = []
    fixed: list[tuple[bytes, np.ndarray[Any, Any]]] = []
    nested: set[str] = set()
    for name, column in columns.items():
        root, dot, _ = name.partition(".")
        if dot and root and root not in columns:
            if root not in nested:
                nested.add(root)
                parts += _flushed(fixed, frame.height)
                parts.append(_nested(frame, columns, root))
            continue
        kind: ColumnType = column.type if column else "string"
        values = frame[name]
        if _TAGS[kind] == b"\x02":
            parts += _flushed(fixed, frame.height)
            parts.append(_texts(name, values))
        elif values.null_count():
            parts += _flushed(fixed, frame.height)
            element = _flushed([(_head(kind, name), _numbers(kind, values))], frame.height)[0]
            null = pa.scalar(_NULL + name.encode() + b"\0", pa.large_binary())
            parts.append(pc.if_else(pa.array(values.is_not_null().to_numpy()), element, null))
        else:
            fixed.append((_head(kind, name), _numbers(kind, values)))
    parts += _flushed(fixed, frame.height)
    end = pa.scalar(b"\0", pa.large_binary())
    lengths = sum(pc.binary_length(part).to_numpy() for part in parts) + 5
    head = _binary(np.asarray(lengths, "<i4").view(np.uint8), 4)
    nothing = pa.scalar(b"", pa.large_binary())
    encoded: list[bytes] = pc.binary_join_element_wise(head, *parts, end, nothing).to_pylist()
    return encoded


def _nested(frame: pl.DataFrame, columns: Mapping[str, Column | None], root: str) -> pa.Array:
    """The columns below a name, as one document of each row."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    below = {n[len(root) + 1 :]: n for n in columns if n.startswith(f"{root}.")}
    inner = frame.select(pl.col(name).alias(rest) for rest, name in below.items())
    made = documents(inner, {rest: columns[name] for rest, name in below.items()})
    head = pa.scalar(b"\x03" + root.encode() + b"\0", pa.large_binary())
    nothing = pa.scalar(b"", pa.large_binary())
    return pc.binary_join_element_wise(head, pa.array(made, pa.large_binary()), nothing)


def _head(kind: ColumnType, name: str) -> bytes:
    return _TAGS[kind] + name.encode() + b"\0"


def _numbers(kind: ColumnType, values: pl.Series) -> np.ndarray[Any, Any]:
    """A column's values as they stand in a document, any value where it is null."""
    import numpy as np
    import polars as pl

    if kind == "float":
        return values.fill_null(0.0).to_numpy().astype("<f8", copy=False)
    if kind == "boolean":
        return values.fill_null(False).to_numpy().astype(np.uint8)
    if kind == "datetime":
        return values.dt.epoch("ms").fill_null(0).to_numpy().astype("<i8", copy=False)
    if kind == "date":
        days = values.cast(pl.Int32).fill_null(0).to_numpy().astype("<i8")
        return days * _DAY
    return values.fill_null(0).to_numpy().astype("<i8", copy=False)


def _flushed(fixed: list[tuple[bytes, np.ndarray[Any, Any]]], rows: int) -> list[pa.Array]:
    """Columns of one width side by side as one column of bytes; `fixed` is emptied."""
    import numpy as np

    if not fixed:
        return []
    layout: list[Any] = []
    for i, (head, values) in enumerate(fixed):
        layout += [(f"h{i}", f"V{len(head)}"), (f"v{i}", values.dtype)]
    table = np.empty(rows, np.dtype(layout))
    for i, (head, values) in enumerate(fixed):
        table[f"h{i}"] = np.void(head)
        table[f"v{i}"] = values
    fixed.clear()
    return [_binary(table.view(np.uint8), table.dtype.itemsize)]


def _binary(data: np.ndarray[Any, Any], width: int) -> pa.Array:
    """Bytes cut into values of one width."""
    import numpy as np
    import pyarrow as pa

    rows = data.size // width
    offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), rows, buffers)


def _texts(name: str, values: pl.Series) -> pa.Array:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    text = values.to_arrow().cast(pa.large_string()).cast(pa.large_binary())
    filled = text.fill_null(b"")
    sizes = pc.binary_length(filled).to_numpy() + 1
    head = pa.scalar(_head("string", name), pa.large_binary())
    size = _binary(np.ascontiguousarray(sizes, "<i4").view(np.uint8), 4)
    end, nothing = (pa.scalar(b, pa.large_binary()) for b in (b"\0", b""))
    element = pc.binary_join_element_wise(head, size, filled, end, nothing)
    if not text.null_count:
        return element
    null = pa.scalar(_NULL + name.encode() + b"\0", pa.large_binary())
    return pc.if_else(text.is_valid(), element, null)


def slices(lengths: Sequence[int], most: int, size: int) -> list[tuple[int, int]]:
    """Cut rows into runs of at most `most` rows and `size` bytes."""
    runs, start, held = [], 0, 0
    for i, length in enumerate(lengths):
        if i > start and (i - start >= most or held + length > size):
            runs.append((start, i))
            start, held = i, 0
        held += length
    return [*runs, (start, len(lengths))] if len(lengths) > start else runs


Encode = Callable[["pl.DataFrame"], list[bytes]]
