"""How many rows of a REST API are new: those of the first page behind the cursor."""

from __future__ import annotations

from etl_ml.extract.pending import SECONDS, Pending
from etl_ml.extract.position import Cursor
from etl_ml.extract.reader import Since
from etl_ml.extract.tail import Seen, Tail
from etl_ml.spec.contract import Contract
from etl_ml.spec.source import RestSource


def count_first_page(
    source: RestSource, contract: Contract, cursor: Cursor, seen: Seen | None
) -> Pending:
    """Rows of the first page that an incremental read has not seen; one request.

    Raises
    ------
    SourceError
        The API does not answer, or refuses.
    """
    from etl_ml.extract.rest import first_page

    since = Since(cursor.name, seen.since) if seen is not None else None
    batch, more = first_page(source, contract, since, SECONDS)
    if seen is None:
        rows = batch.num_rows
        return Pending(rows, f"{rows:,}{' or more' * more} rows, nothing was read yet")
    tail = Tail(cursor, None)
    tail.add(batch, 0)
    now = tail.counted(seen.since, seen.position)
    rows = max(now.past - seen.past, 0) + max(now.window - seen.window, 0)
    if more and not rows:
        return Pending(None, "what is new stands behind the first page, if anything is")
    return Pending(rows, f"{rows:,}{' or more' * more} new rows by {cursor.name}")
