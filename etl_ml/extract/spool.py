"""Rows set down on disk between the source and the lake."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from etl_ml.extract.source_error import SourceError

if TYPE_CHECKING:
    import pyarrow as pa


class Spool:
    """Batches in a temporary file, which is gone with this object or its process.

    What follows on a table is committed with the cursor behind it, which is known once all rows
    were read: until then they wait here, not in memory.
    """

    def __init__(self, schema: pa.Schema) -> None:
        import pyarrow as pa

        self.schema = schema
        self.rows = 0
        self._file = tempfile.TemporaryFile(prefix="etl_ml_")  # noqa: SIM115
        self._writer = pa.ipc.new_stream(
            pa.PythonFile(self._file, "w"),
            schema,
            options=pa.ipc.IpcWriteOptions(compression="lz4"),
        )

    def add(self, batch: pa.RecordBatch) -> None:
        """Set rows down.

        Raises
        ------
        SourceError
            The temporary folder has no room; nothing is in the lake.
        """
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
            raise SourceError(
                f"the temporary folder is full after {self.rows:,} rows; nothing was written.",
                where=tempfile.gettempdir(),
                fix="make room there, or set TMPDIR to a larger disk",
            ) from None
        self.rows += batch.num_rows

    def close(self) -> None:
        """No more rows will come."""
        self._writer.close()
        self._file.flush()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        self._file.seek(0)
        yield from pa.ipc.open_stream(pa.PythonFile(self._file, "r"))
