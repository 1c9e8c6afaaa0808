"""Messages of a stream as Arrow batches: what they say, and where they stand.

A value that cannot be decoded keeps its place like any other: its cells are null, and
`_etl_ml_original` is what was sent, as a JSON string, so that validation sets it aside.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from etl_ml.extract.documents import Documents, parse_json, to_json
from etl_ml.lake.identity import ORIGINAL
from etl_ml.spec.contract import Contract
from etl_ml.spec.stream import TOMBSTONE

if TYPE_CHECKING:
    import pyarrow as pa

_FRAMED = 5  # bytes before a value that a schema registry knows: a zero, and the schema's number


class Values(Protocol):
    """A format of values."""

    exact: bool
    """Whether `rows` keeps numbers as they were written."""

    def rows(self, values: Sequence[bytes | None]) -> list[Any]:
        """What each value says: a mapping of fields, anything else where it is no such thing."""

    def again(self, value: bytes) -> Any:
        """A mapping that came out of `rows`, with its numbers as they were written."""


class JsonValues:
    """JSON, with or without the frame of a schema registry."""

    exact = False

    def rows(self, values: Sequence[bytes | None]) -> list[Any]:
        from pydantic_core import from_json

        try:
            return [from_json(v, allow_inf_nan=False, cache_strings="keys") for v in values]  # type: ignore[arg-type]
        except (TypeError, ValueError):  # one of them is none, or no JSON
            return [self._row(value) for value in values]

    def again(self, value: bytes) -> Any:
        return parse_json(value[_FRAMED:] if value[:1] == b"\0" else value)

    def _row(self, value: bytes | None) -> Any:
        from pydantic_core import from_json

        if value is None:
            return None
        try:
            return from_json(
                value[_FRAMED:] if value[:1] == b"\0" else value,
                allow_inf_nan=False,
                cache_strings="keys",
            )
        except ValueError:
            pass
        try:
            return self.again(value)  # which knows a byte order mark and half of a surrogate pair
        except ValueError:
            return None


class Messages:
    """Turns messages into batches.

    Parameters
    ----------
    own : type of each column that is the message's own: its place, time and key

    Attributes
    ----------
    schema : the contracted columns as text, those of `own`, and `_etl_ml_original`: JSON of a
        message with a field that is not contracted, a JSON string of one that is no document,
        `null` for a message without a value; null for all others
    """

    def __init__(self, contract: Contract, values: Values, own: Mapping[str, pa.DataType]) -> None:
        import pyarrow as pa

        columns = {name: c for name, c in contract.columns.items() if name not in own}
        self._documents = Documents(contract.model_copy(update={"columns": columns}))
        self._values, self._own = values, own
        fields = [field for field in self._documents.schema if field.name != ORIGINAL]
        self.schema = pa.schema([*fields, *own.items(), (ORIGINAL, pa.string())])

    def batch(
        self, values: Sequence[bytes | None], own: Mapping[str, pa.Array | Sequence[Any]]
    ) -> pa.RecordBatch:
        """N messages in their order.

        Parameters
        ----------
        own : n values for each column that is the message's own
        """
        import pyarrow as pa

        rows = self._values.rows(values)

        def original(at: int) -> str:
            value, found = values[at], rows[at]
            if value is None:
                return TOMBSTONE
            if not isinstance(found, dict):
                return json.dumps(as_text(value), ensure_ascii=False)
            return to_json(found if self._values.exact else self._values.again(value))

        def exact(at: int) -> Any:
            return self._values.again(values[at] or b"")

        said = self._documents.batch(
            rows, exact=None if self._values.exact else exact, original=original
        )
        stands = [
            value if isinstance(value, pa.Array) else pa.array(value, self._own[name])
            for name, value in ((name, own[name]) for name in self._own)
        ]
        return pa.RecordBatch.from_arrays(
            [*said.columns[:-1], *stands, said.columns[-1]], schema=self.schema
        )


def as_text(value: bytes) -> str:
    """Bytes as text where they are UTF-8, else as a data URL (RFC 2397)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"data:;base64,{base64.b64encode(value).decode()}"


def keys(values: Sequence[bytes | None]) -> pa.Array:
    """Keys as text, see `as_text`."""
    import pyarrow as pa

    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if v is None else as_text(v) for v in values], pa.string())
