"""What is new in a stream: rows, and the places behind them, for one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from etl_ml.extract.extract import identified, identify
from etl_ml.extract.source_error import SourceError
from etl_ml.extract.spool import Spool
from etl_ml.lake.growing import Increment
from etl_ml.lake.identity import Identity
from etl_ml.lake.progress import Progress
from etl_ml.spec.error import listed
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import pyarrow as pa


class StreamReader(Protocol):
    """An opened stream, read once."""

    schema: pa.Schema
    origin: tuple[str, ...]

    @property
    def total(self) -> int | None:
        """How many messages there are to read at most, where that can be told."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """What is new, in batches of bounded size, until all of it was read or a bound is met.

        What heals is waited for here; no message comes twice.
        """

    def cursor(self) -> dict[str, Any]:
        """What the commit of the rows read so far has to remember; what JSON can hold."""

    def moved(self) -> bool:
        """Whether the cursor is another than the one that the reader was opened with."""

    def committed(self) -> None:
        """The rows are in the lake."""

    def close(self) -> None:
        """Let go of connections; what was read can still be committed."""


def read_stream(
    pipeline: Pipeline,
    place: Sequence[str],
    reader: StreamReader,
    *,
    first: bool,
    marks: bool,
    log: Callable[[str], None] | None,
) -> Increment | None:
    """Read one micro-batch.

    Parameters
    ----------
    place : the columns that are a message's own place
    first : there is no row that these could follow on
    marks : without a message too, the first commit marks where the next run begins

    Returns
    -------
    Increment or None
        None when nothing is new. Without a row it only moves the cursor, past what is no message.

    Raises
    ------
    SourceError
        There is no message to begin with.
    """
    key = pipeline.contract.primary_key
    # A place comes once. Where a key does not, the place tells its messages apart: nobody has to
    # count those that are in the table.
    identity = Identity(key, apart=place) if key else Identity(place, unique=True)
    spool = Spool(identified(reader.schema))
    progress = Progress("Read", reader.total, log) if log else None
    try:
        for batch in reader:
            spool.add(identify(batch, identity))
            if progress:
                progress.add(batch.num_rows, batch.nbytes)
        spool.close()
        if progress:
            progress.done()
        if first and not spool.rows and not marks:
            raise SourceError(
                f"{listed(reader.origin, 3)}: there is no message yet.",
                where="source",
                fix="send some, correct the name, or set source.start to an earlier place",
            )
        if not spool.rows and not first and not reader.moved():
            return None
        cursor: Mapping[str, Any] = reader.cursor() | {"new_rows": spool.rows}
    finally:
        reader.close()
    return Increment(spool, cursor, committed=reader.committed)
