"""Arrow rows as MongoDB documents and back, without loss.

Numbers, text, booleans, dates and lists are what a query in MongoDB expects. BSON knows time to the
millisecond: what is left of a microsecond is kept beside the row, in `rest`. Times of day, spans
and moments within lists are whole numbers, in the unit of their type; unsigned numbers and decimals
beyond int64 are Decimal128.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from etl_ml.lake.backend import Batches
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    import pyarrow as pa

_INT64 = 1 << 63
_EPOCH = date(1970, 1, 1)
_DAY_MS = 86_400_000


class NoSuchDocument(EtlMlError):
    """Rows that MongoDB cannot hold."""


def encoded_rows(rows: Batches, part: Any, size: int) -> Iterator[list[dict[str, Any]]]:
    """Documents `{part, row, rest}` of all rows, in lists of at most `size`.

    Raises
    ------
    NoSuchDocument
        A column's name holds a null character.
    """
    for name in rows.schema.names:
        if "\x00" in name:
            raise NoSuchDocument(
                f"column {name!r} cannot be stored in MongoDB.", fix="rename the column"
            )
    for batch in rows:
        for start in range(0, batch.num_rows, size):
            yield _documents(batch.slice(start, size), part)


def _documents(batch: pa.RecordBatch, part: Any) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = [{"part": part, "row": {}} for _ in range(batch.num_rows)]
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values, rest = _encoded(column)
        for document, value in zip(documents, values, strict=True):
            if value is not None:
                document["row"][name] = value
        for place, left in rest.items():
            documents[place].setdefault("rest", {})[name] = left
    return documents


def _encoded(column: pa.Array) -> tuple[Sequence[Any], dict[int, int]]:
    """Values as BSON has them, and by row what a date cannot hold."""
    import pyarrow as pa
    from bson import DatetimeMS, Decimal128

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _encoded(column.cast(kind.value_type))
    if pa.types.is_date32(kind):
        days = column.cast(pa.int32()).to_pylist()
        return [None if d is None else DatetimeMS(d * _DAY_MS) for d in days], {}
    if pa.types.is_timestamp(kind) and kind.unit in ("us", "ms", "s"):
        whole = column.cast(pa.timestamp("us", tz=kind.tz)).cast(pa.int64()).to_pylist()
        values = [None if us is None else DatetimeMS(us // 1000) for us in whole]
        return values, {i: us % 1000 for i, us in enumerate(whole) if us is not None and us % 1000}
    if pa.types.is_decimal(kind):
        return [None if v is None else Decimal128(v) for v in column.to_pylist()], {}
    if pa.types.is_uint64(kind):
        return [
            v if v is None or v < _INT64 else Decimal128(Decimal(v)) for v in column.to_pylist()
        ], {}
    return _numbered(column).to_pylist(), {}


def _numbered(column: Any) -> Any:
    """With moments, times of day and spans as the numbers that they are stored as."""
    stored = _stored_type(column.type)
    return column if stored == column.type else column.cast(stored)


def _stored_type(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_time32(kind) or pa.types.is_date32(kind):
        return pa.int32()
    if pa.types.is_temporal(kind):
        return pa.int64()
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return type_of_list(kind, _stored_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(_stored_type(f.type)) for f in kind])
    return kind


def type_of_list(kind: pa.DataType, value: pa.DataType) -> pa.DataType:
    """A list type of the same size of offsets."""
    import pyarrow as pa

    return pa.large_list(value) if pa.types.is_large_list(kind) else pa.list_(value)


def decoded(documents: Iterable[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """The rows of documents, with the columns and types of a schema."""
    import pyarrow as pa

    found = list(documents)
    columns = []
    for field in schema:
        values = [document["row"].get(field.name) for document in found]
        rest = {
            place: document["rest"][field.name]
            for place, document in enumerate(found)
            if field.name in document.get("rest", ())
        }
        columns.append(_decoded(values, rest, field.type))
    return pa.table(columns, schema=schema)


def _decoded(values: list[Any], rest: dict[int, int], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _decoded(values, rest, kind.value_type).cast(kind)
    if pa.types.is_date32(kind):
        days = [None if v is None else (v.date() - _EPOCH).days for v in values]
        return pa.array(days, pa.int32()).cast(kind)
    if pa.types.is_timestamp(kind) and kind.unit in ("us", "ms", "s"):
        micros = [None if v is None else _micros(v) + rest.get(i, 0) for i, v in enumerate(values)]
        moments = pa.array(micros, pa.int64()).cast(pa.timestamp("us", tz=kind.tz))
        return moments.cast(kind)
    if pa.types.is_decimal(kind) or pa.types.is_uint64(kind):
        from bson import Decimal128

        plain = [v.to_decimal() if isinstance(v, Decimal128) else v for v in values]
        if pa.types.is_uint64(kind):
            plain = [v if v is None else int(v) for v in plain]
        return pa.array(plain, kind)
    stored = _stored_type(kind)
    return pa.array(values, stored).cast(kind) if stored != kind else pa.array(values, kind)


def _micros(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
