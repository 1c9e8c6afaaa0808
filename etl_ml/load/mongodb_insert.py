"""Rows into a MongoDB collection, in bulk and unordered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl_ml.lake.identity import ROW
from etl_ml.lake.progress import Progress
from etl_ml.load.bson_rows import Document, documents, slices
from etl_ml.load.load_error import LoadError
from etl_ml.load.mongodb_server import Server
from etl_ml.load.rows import Rows

if TYPE_CHECKING:
    import polars as pl
    from pymongo.collection import Collection


BATCH = 10_000
MESSAGE = 16_000_000  # bytes a message
_LARGEST = 16 * 1024 * 1024  # bytes a document, the server's limit
DUPLICATE = 11000


def fields(rows: Rows) -> dict[str, Any]:
    """A document's fields: `_id` is the row's identity unless the rows have an `_id`."""
    if "_id" in rows.columns:
        return {**rows.columns, ROW: None}
    return {"_id": None, **rows.columns}


def insert(
    collection: Collection[dict[str, Any]],
    batch: pl.DataFrame,
    rows: Rows,
    server: Server,
    progress: Progress,
    *,
    fresh: bool = False,
) -> None:
    """Insert a batch; what is there already stays as it is, unless there should be nothing."""
    if "_id" in rows.columns:
        rows.refuse_null_key(batch, ["_id"])
        encoded = documents(batch, fields(rows))
    else:
        encoded = documents(batch.rename({ROW: "_id"}), fields(rows))
    lengths = [len(document) for document in encoded]
    refuse_large(lengths, batch)
    for start, end in slices(lengths, BATCH, MESSAGE):
        command = {
            "insert": collection.name,
            "ordered": False,
            "writeConcern": collection.write_concern.document,
        }

        def send(
            again: bool, command: dict[str, Any] = command, start: int = start, end: int = end
        ) -> None:
            # The driver takes the documents out of the command that it sends.
            sent = [Document(document) for document in encoded[start:end]]
            answer = collection.database.command({**command, "documents": sent})
            check(answer, batch[start:end], ignore_known=again or not fresh)

        server.insist(send)
        progress.add(end - start, sum(lengths[start:end]))


def refuse_large(lengths: Sequence[int], batch: pl.DataFrame) -> None:
    if lengths and max(lengths) > _LARGEST:
        at = lengths.index(max(lengths))
        raise LoadError(
            f"row {batch[ROW][at]} is {lengths[at]:,} bytes as a document; "
            f"MongoDB takes {_LARGEST:,}.",
            fix="set max_length on its text columns, or drop columns",
        )


def check(answer: Mapping[str, Any], batch: pl.DataFrame, *, ignore_known: bool) -> None:
    """Raise for what a bulk write reports in its answer."""
    from pymongo.errors import WriteConcernError

    for error in answer.get("writeErrors", ()):
        code = error["code"]
        index = re.search(r"index:\s*(?:\S+\$)?(\S+)", error.get("errmsg", ""))
        name = index[1] if index else "?"
        if code == DUPLICATE and ignore_known and name.startswith("_id"):
            continue
        row = batch[ROW][error["index"]]
        if code == DUPLICATE:
            raise LoadError(
                f"row {row} has a value that another document has already, "
                f"and index {name!r} is unique.",
                fix="choose a key that is unique, or drop the index",
            )
        raise LoadError(
            f"row {row} is refused by the server ({code}).",
            fix="look the code up in MongoDB's list of errors, and at the collection's validator",
        )
    if concern := answer.get("writeConcernError"):
        raise WriteConcernError(concern.get("errmsg", ""), concern.get("code"), concern)
