"""Parquet: typed columns, as they were written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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
            self._file = parquet.ParquetFile(path)
        except pa.ArrowInvalid as error:
            refuse(path, f"not a sound Parquet file: {error}", "copy or write the file again")
        self._path = path
        self.schema = pa.schema([(f.name, _storable(f.type)) for f in self._file.schema_arrow])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._file.iter_batches(_ROWS):
            yield batch.cast(self.schema)


def _storable(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _storable(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_duration(kind):
        return pa.int64()
    if kind == pa.uint64() or pa.types.is_null(kind) or pa.types.is_time(kind):
        return pa.string()
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return kind
