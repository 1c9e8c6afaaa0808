"""Parquet: typed columns, as they were written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from etl_ml.extract.source_error import refuse

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 65_536


class ParquetFile:
    """One Parquet file. Types that Delta Lake does not have become text, or their nearest."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            self._file = parquet.ParquetFile(path, page_checksum_verification=True)
        except (pa.ArrowInvalid, OSError) as error:
            self._damaged(path, error)
        self._path = path
        self.schema = pa.schema([(f.name, _storable(f.type)) for f in self._file.schema_arrow])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(_ROWS):
                columns = [
                    self._cast(column, field)
                    for column, field in zip(batch.columns, self.schema, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=self.schema)
        except (pa.ArrowInvalid, OSError) as error:
            self._damaged(self._path, error)

    def _cast(self, column: pa.Array, to: pa.Field) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        if column.type == to.type:
            return column
        try:
            # Nanoseconds end at microseconds, as in Delta Lake.
            return pc.cast(column, options=pc.CastOptions(to.type, allow_time_truncate=True))
        except pa.ArrowInvalid as error:
            refuse(self._path, f"column {to.name!r}: {error}", f"write it as {to.type}")

    @staticmethod
    def _damaged(path: Path, error: Exception) -> NoReturn:
        reason = " ".join(str(error).split()).rstrip(".")
        refuse(path, f"not a sound Parquet file: {reason}", "copy or write the file again")


def _storable(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _storable(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_duration(kind):
        return pa.int64()
    if pa.types.is_unsigned_integer(kind) and kind != pa.uint64():
        return {pa.uint8(): pa.int16(), pa.uint16(): pa.int32()}.get(kind, pa.int64())
    if kind == pa.uint64() or pa.types.is_null(kind) or pa.types.is_time(kind):
        return pa.string()
    if pa.types.is_decimal256(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(_storable(f.type)) for f in kind])
    if pa.types.is_map(kind):
        return pa.map_(_storable(kind.key_type), _storable(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_storable(kind.value_type))
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return kind
