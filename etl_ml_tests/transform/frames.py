"""Clean rows as the stages hand them on, without a lake."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

ROW = "_etl_ml_row"


def identified(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with an identity a row; what matters of it is that it is text and unique."""
    ids = [hashlib.md5(f"{place}".encode()).hexdigest() for place in range(len(frame))]
    return frame.with_columns(pl.Series(ROW, ids))


def encoded_row(row: dict[str, object], columns: Sequence[str]) -> bytes:
    """The canonical encoding of a row of numbers, texts and dates, written from its description.

    Per column in the order of their names: `<length>:<name>`, a tag, and the value: 8 big-endian
    bytes for numbers and days, `<length>:<NFC UTF-8>` for text, `n` alone for null.
    """
    import datetime
    import struct
    import unicodedata

    parts = []
    for name in sorted(columns):
        parts.append(b"%d:%s" % (len(name.encode()), name.encode()))
        match row[name]:
            case None:
                parts.append(b"n")
            case bool(value):
                parts.append(b"b" + struct.pack(">q", value))
            case int(value):
                parts.append(b"i" + struct.pack(">q", value))
            case float(value):
                parts.append(b"f" + struct.pack(">d", value + 0.0))
            case str(value):
                text = unicodedata.normalize("NFC", value).encode()
                parts.append(b"s%d:%s" % (len(text), text))
            case datetime.date() as value:
                days = (value - datetime.date(1970, 1, 1)).days
                parts.append(b"d" + struct.pack(">q", days))
            case value:
                raise TypeError(type(value))
    return b"".join(parts)
