"""The identity of a row: BLAKE2b-128 over a canonical encoding of its cells.

The encoding is part of the lake's format, pinned by golden values in a test. A cell is its column's
name, a type tag and its value: integers and times as 8 big-endian bytes (times in microseconds
since 1970, UTC; dates in days), floats as IEEE 754 with one zero and one NaN, text as NFC UTF-8
with its length, lists and structs as their JSON, bytes and everything else by length and text, null
as a tag of its own. Polars' own hash is promised for one release only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ROW = "_etl_ml_row"
ORIGINAL = "_etl_ml_original"
INTERNAL = (ROW, ORIGINAL)

# Encoded at once: Arrow's binary arrays end at 2 GB.
_ROWS = 65_536


def hash_rows(
    rows: pa.Table | pa.RecordBatch, columns: Iterable[str], salt: bytes = b""
) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
    """Hash each row's cells in the given columns, in the order of their names.

    Returns
    -------
    ndarray of shape (n,), dtype S16

    References
    ----------
    RFC 7693, The BLAKE2 Cryptographic Hash; the salt is its key.
    """
    import numpy as np

    names = sorted(columns)
    seeded = hashlib.blake2b(digest_size=16, key=salt)
    digests = bytearray()
    for start in range(0, rows.num_rows, _ROWS):
        for row in _encoded(rows.slice(start, _ROWS), names):
            state = seeded.copy()
            state.update(row)
            digests += state.digest()
    return np.frombuffer(bytes(digests), dtype="S16")


def _encoded(rows: pa.Table | pa.RecordBatch, names: Sequence[str]) -> Iterable[bytes]:
    """Each row's cells, one after the other."""
    import pyarrow as pa
    import pyarrow.compute as pc

    joined: list[pa.Array | pa.Scalar] = []
    block: list[tuple[bytes, np.ndarray]] = []
    for name in names:
        column = _flat(rows[name])
        label = b"%d:%s" % (len(name.encode()), name.encode())
        fixed = None if column.null_count else _fixed(column)
        if fixed is not None:
            tag, values = fixed
            block.append((label + tag, values))
            continue
        if block:
            joined.append(_joined(block))
            block = []
        joined += [pa.scalar(label, pa.binary()), _cells(column)]
    if block:
        joined.append(_joined(block))
    if not joined:
        return [b""] * rows.num_rows
    parts = [part.cast(pa.binary()) for part in joined]
    if len(parts) > 1:
        parts = [pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))]
    encoded: list[bytes] = parts[0].to_pylist()
    return encoded


def _joined(block: Sequence[tuple[bytes, np.ndarray]]) -> pa.Array:
    """Columns whose cells are all of one length, side by side: label with tag, then the value."""
    import numpy as np
    import pyarrow as pa

    row, starts = b"", []
    for label, _ in block:
        row += label
        starts.append(len(row))
        row += bytes(8)
    names = list(map(str, starts))
    formats = [values.dtype for _, values in block]
    layout = np.dtype({"names": names, "formats": formats, "offsets": starts, "itemsize": len(row)})
    cells = np.full(len(block[0][1]), np.void(row))
    fields = cells.view(layout)
    for name, (_, values) in zip(names, block, strict=True):
        fields[name] = values
    kind = pa.binary(len(row))
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(cells), [None, pa.py_buffer(cells)])


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _cells(column: pa.Array) -> pa.Array:
    """One binary value a cell: type tag and canonical bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    fixed = _fixed(column)
    if fixed is not None:
        cells = _joined([fixed]).cast(pa.binary())
        return pc.if_else(column.is_valid(), cells, pa.scalar(b"n", pa.binary()))
    if _is_text(kind):
        return _variable(b"s", _normalised(column.cast(pa.large_string())))
    if pa.types.is_nested(kind):
        texts = [None if v is None else json.dumps(v, default=str) for v in column.to_pylist()]
        return _variable(b"j", pa.array(texts, pa.large_string()))
    if pa.types.is_null(kind):
        return pa.array([b"n"] * len(column), pa.binary())
    if (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    ):
        return _variable(b"x", column.cast(pa.large_binary()))
    return _variable(b"x", pc.cast(column, pa.large_string()))


def _fixed(column: pa.Array) -> tuple[bytes, np.ndarray] | None:
    """Tag and values of eight bytes, whatever is at nulls; None where cells are of any length."""
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if pa.types.is_floating(kind):
        values = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0
        values[np.isnan(values)] = np.nan
        return b"f", values.astype(">f8")
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return b"i", _integers(column)
    if pa.types.is_boolean(kind):
        return b"b", _integers(column.cast(pa.int8()))
    if pa.types.is_date(kind):
        return b"d", _integers(column.cast(pa.date32()).cast(pa.int32()))
    if pa.types.is_timestamp(kind):
        return b"t", _integers(column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64()))
    return None


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _normalised(texts: pa.Array) -> pa.Array:
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.all(pc.string_is_ascii(texts)).as_py() in (True, None):
        return texts
    # Arrow's own utf8_normalize gives the decomposed form whatever it is asked for.
    return pl.Series(texts).str.normalize("NFC").to_arrow().cast(pa.large_string())


def _integers(column: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    import pyarrow as pa

    values: np.ndarray[tuple[int], np.dtype[np.int64]]
    values = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return values.astype(">i8")


def _variable(tag: bytes, texts: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    length = pc.binary_length(texts).cast(pa.string()).cast(pa.binary())
    parts = (
        pa.scalar(tag, pa.binary()),
        length,
        pa.scalar(b":", pa.binary()),
        texts.cast(pa.binary()),
    )
    tagged = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))
    return tagged.fill_null(pa.scalar(b"n", pa.binary()))


class Identity:
    """Gives every row of a stream its `_etl_ml_row`: hash of its key, and number among equals.

    Parameters
    ----------
    key : the columns that identify a row; all columns when empty
    unique : whether the source lets no two rows have one key, so that none has to be counted
    apart : columns that no two rows have equal: 63 bits of their hash take the place of a number
        among equals
    """

    def __init__(
        self, key: Sequence[str] = (), *, unique: bool = False, apart: Sequence[str] = ()
    ) -> None:
        self._key, self._apart = tuple(key), tuple(apart)
        self._seen = None if unique or apart else _Counter()

    def seen(self, rows: pa.Array) -> None:
        """Go on behind rows that have their identity (text) already, each once."""
        import numpy as np
        import pyarrow.compute as pc

        if self._seen is None:
            raise ValueError("rows that came before need counting")
        digits = "".join(pc.utf8_slice_codeunits(rows, 0, 16).to_pylist())
        self._seen.add(np.frombuffer(bytes.fromhex(digits), np.uint64))

    def of(self, batch: pa.RecordBatch) -> pa.Array:
        """The batch's row identities as text, `<32 hex digits>-<occurrence>`."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        names = self._key or tuple(batch.schema.names)
        hashes = hash_rows(_trimmed(batch.select(names)), names)
        buffer = pa.py_buffer(hashes.tobytes().hex().encode())
        digits = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(hashes), [None, buffer])
        text = digits.cast(pa.binary()).cast(pa.string())
        if self._apart:
            places = hash_rows(batch.select(self._apart), self._apart).view(np.uint64)[::2]
            number = pa.array(places >> 1).cast(pa.string())
            return pc.binary_join_element_wise(text, number, "-")
        if self._seen is None:
            return pc.binary_join_element_wise(text, "0", "-")
        occurrence = pa.array(self._seen.count(hashes)).cast(pa.string())
        return pc.binary_join_element_wise(text, occurrence, "-")


def _trimmed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """White space around text cells never counts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [pc.utf8_trim_whitespace(c) if _is_text(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


class _Counter:
    """How often each hash came before, in 12 bytes a distinct row.

    Counted by the first 8 bytes of the hash: where two rows share those and not the rest, one of
    them starts at 1, which is as good an identity. Sorted runs are merged as they reach each
    other's size, so that each row is moved a logarithmic number of times.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def count(self, hashes: np.ndarray[tuple[int], np.dtype[np.bytes_]]) -> np.ndarray:
        import numpy as np

        prefixes = hashes.view(np.uint64)[::2]
        order = np.argsort(prefixes, kind="stable")
        ranked = prefixes[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]][: len(ranked)])
        sizes = np.diff(np.r_[starts, len(ranked)])
        distinct = ranked[starts]
        before = np.zeros(len(distinct), np.uint32)
        for known, times in self._runs:
            at = np.minimum(np.searchsorted(known, distinct), len(known) - 1)
            before += np.where(known[at] == distinct, times[at], 0).astype(np.uint32)
        occurrence = np.empty(len(ranked), np.int64)
        within = np.arange(len(ranked)) - np.repeat(starts, sizes)
        occurrence[order] = np.repeat(before, sizes) + within
        if len(distinct):
            self._add(distinct, sizes.astype(np.uint32))
        return occurrence

    def add(self, prefixes: np.ndarray) -> None:
        """Count hashes, by their first 8 bytes, that came before."""
        import numpy as np

        distinct, times = np.unique(prefixes, return_counts=True)
        if len(distinct):
            self._add(distinct, times.astype(np.uint32))

    def _add(self, hashes: np.ndarray, times: np.ndarray) -> None:
        import numpy as np

        while self._runs and len(self._runs[-1][0]) <= 2 * len(hashes):
            known, counted = self._runs.pop()
            merged = np.concatenate([known, hashes])
            hashes, at = np.unique(merged, return_inverse=True)
            times = np.bincount(at, weights=np.concatenate([counted, times])).astype(np.uint32)
        self._runs.append((hashes, times))
