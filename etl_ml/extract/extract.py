"""The front door: from a source to rows as they were read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.extract.file import open_files
from etl_ml.extract.source_error import SourceError
from etl_ml.lake.backend import Batches
from etl_ml.lake.identity import ORIGINAL, ROW, Identity
from etl_ml.spec.error import listed
from etl_ml.spec.source import FileSource

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Extraction:
    """Rows on their way to the lake.

    `rows` has the source's columns, `_etl_ml_row` (text: the row's identity) and
    `_etl_ml_original` (text, null where the cells hold the row as it was).
    """

    rows: Batches
    columns: tuple[str, ...]
    origin: tuple[str, ...]


def extract(source: FileSource, *, base: Path, primary_key: Sequence[str] = ()) -> Extraction:
    """Open a source; rows are read when the result is iterated, in batches of bounded size.

    Parameters
    ----------
    base : the folder that relative paths start from
    primary_key : the columns that identify a row; all cells when empty

    Raises
    ------
    SourceError
        There is nothing to read: named before any work is done. A row that cannot be read is named
        when it is reached.
    """
    origin, batches = open_files(source, base)
    names = tuple(batches.schema.names)
    if next(iter(batches), None) is None:
        raise SourceError(
            f"{listed(origin, 3)}: a header and no rows.",
            where="source.path",
            fix="put rows in the file, or point source.path at another one",
        )
    key = [name for name in primary_key if name in names]
    return Extraction(
        _Identified(batches, key if len(key) == len(primary_key) else ()), names, origin
    )


class _Identified:
    """Batches with their rows' identities."""

    def __init__(self, batches: Batches, key: Sequence[str]) -> None:
        import pyarrow as pa

        self._batches, self._key = batches, key
        internal = [pa.field(ROW, pa.string()), pa.field(ORIGINAL, pa.string())]
        self.schema = pa.schema([*batches.schema, *internal])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        identity = Identity(self._key)
        for batch in self._batches:
            internal = [identity.of(batch), pa.nulls(batch.num_rows, pa.string())]
            yield pa.RecordBatch.from_arrays([*batch.columns, *internal], schema=self.schema)
