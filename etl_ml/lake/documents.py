"""JSON as the lake writes it: UTF-8, keys in the order given, no NaN."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any


def dump_json(value: Any) -> bytes:
    """Encode a report; what JSON has no word for becomes null (NaN, infinities) or text
    (dates, decimals; bytes in hexadecimal).
    """
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=2)
    return f"{text}\n".encode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return value
