"""Arrow tables of every type in tables of the lake, whose types are fewer; and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    import pyarrow as pa

POSITION = "_etl_ml_position"
"""The column that keeps the order of rows: a table of the lake has none."""
LIBRARY = b"etl_ml.library"


class UnstorableColumn(EtlMlError):
    """A column of a type, or with a name, that a table of the lake cannot have."""


def storable(table: pa.Table, library: str, where: str) -> tuple[pa.Table, pa.Table]:
    """The table as the lake holds it, and one of nulls with its types, categories and metadata.

    Raises
    ------
    UnstorableColumn
        A column is of a type that has no counterpart, or two names are one but for their case.
    """
    import numpy as np
    import pyarrow as pa

    lower = [name.lower() for name in table.schema.names]
    if len(set(lower)) < len(lower) or POSITION in lower:
        twice = POSITION if POSITION in lower else next(n for n in lower if lower.count(n) > 1)
        raise UnstorableColumn(
            f"{where}: two columns are named {twice!r}, if case is ignored.",
            where=where,
            fix="rename one of them",
        )
    names, columns = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = _stored(field.type)
        if kind is None:
            raise UnstorableColumn(
                f"{where}: column {field.name!r} is of type {field.type}, which the lake's tables "
                "have not.",
                where=where,
                fix="convert it to numbers, text, dates or lists of them",
            )
        names.append(field.name)
        columns.append(_cast(column, kind))
    names.append(POSITION)
    columns.append(pa.array(np.arange(len(table), dtype=np.int64)))
    metadata = {**(table.schema.metadata or {}), LIBRARY: library.encode()}
    # One row of nulls for each dictionary: an empty chunk would not be written, nor its categories.
    shape = pa.table(
        [_shape(column) for column in table.unify_dictionaries().columns],
        schema=table.schema.with_metadata(metadata),
    )
    return pa.table(columns, names=names), shape


def _shape(column: pa.ChunkedArray) -> pa.Array:
    """One null of the column's type; a dictionary's with all of its categories."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return pa.nulls(1, column.type)
    categories = column.chunk(0).dictionary if column.num_chunks else []
    nothing = pa.nulls(1, column.type.index_type)
    values = pa.array(categories, column.type.value_type)
    return pa.DictionaryArray.from_arrays(nothing, values, ordered=column.type.ordered)


def restored(table: pa.Table, shape: pa.Table) -> pa.Table:
    """The table with the types, categories and metadata that it had."""
    import pyarrow as pa

    columns = []
    for field, one in zip(shape.schema, shape.columns, strict=True):
        column = table.column(field.name)
        if pa.types.is_null(field.type):
            columns.append(pa.nulls(len(table)))
        elif pa.types.is_dictionary(field.type):
            columns.append(_categories(column, one.chunk(0).dictionary, field.type))
        else:
            columns.append(_cast(column, field.type))
    return pa.table(columns, schema=shape.schema)


def _categories(column: pa.ChunkedArray, dictionary: pa.Array, kind: pa.DataType) -> pa.Array:
    """Codes into the categories as they were, in their order, the unused ones included."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.combine_chunks().cast(dictionary.type)
    codes = pc.index_in(values, value_set=dictionary).cast(kind.index_type)
    return pa.DictionaryArray.from_arrays(codes, dictionary, ordered=kind.ordered)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    import pyarrow as pa

    if column.type == kind:
        return column
    if pa.types.is_time32(column.type) or pa.types.is_time32(kind):
        column = column.cast(pa.int32())
    return column.cast(kind)


def _stored(kind: pa.DataType) -> pa.DataType | None:
    """The type that stands for another one in a table of the lake; None where there is none."""
    import pyarrow as pa

    is_ = pa.types
    if is_.is_dictionary(kind):
        return _stored(kind.value_type)
    if is_.is_null(kind) or is_.is_string(kind) or is_.is_large_string(kind):
        return pa.string()
    if is_.is_string_view(kind):
        return pa.string()
    if is_.is_uint64(kind):
        return pa.decimal128(20, 0)
    smaller = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
    if kind in smaller:
        return smaller[kind]
    if is_.is_float16(kind):
        return pa.float32()
    if is_.is_duration(kind) or is_.is_time(kind):
        return pa.int64()
    if is_.is_date(kind):
        return pa.date32()
    if is_.is_timestamp(kind):
        return pa.int64() if kind.unit == "ns" else pa.timestamp("us", "UTC" if kind.tz else None)
    if is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_fixed_size_binary(kind):
        return pa.binary()
    if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        value = _stored(kind.value_type)
        return None if value is None or not _nests(kind.value_type) else pa.list_(value)
    if is_.is_struct(kind):
        if not all(_nests(field.type) for field in kind):
            return None
        return pa.struct([field.with_type(_stored(field.type)) for field in kind])
    plain = is_.is_integer(kind) or is_.is_floating(kind) or is_.is_boolean(kind)
    return kind if plain or is_.is_decimal128(kind) else None


def _nests(kind: pa.DataType) -> bool:
    """Whether Arrow converts the type within lists, too: sizes of offsets, not units or signs."""
    import pyarrow as pa

    stored = _stored(kind)
    if stored is None or stored == kind:
        return stored is not None
    is_ = pa.types
    texts = is_.is_large_string(kind) or is_.is_string_view(kind) or is_.is_large_binary(kind)
    return bool(texts or is_.is_nested(kind))
