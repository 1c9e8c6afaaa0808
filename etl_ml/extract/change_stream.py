"""MongoDB's change streams: what has changed since a place in them, so far as it is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from etl_ml.extract.mongodb_collection import MongoCollection, heals
from etl_ml.extract.pending import SECONDS, Pending
from etl_ml.spec.source import MongoSource

_FIND_SECONDS = 5.0
_BATCH = 1000


def token(source: MongoSource) -> dict[str, Any] | None:
    """The place where the changes to come begin; None where the server has no change streams.

    Raises
    ------
    SourceError
        The server does not answer, or refuses the user.
    """
    from pymongo.errors import PyMongoError

    there = MongoCollection(source)
    try:
        with there.client, there.collection.watch(max_await_time_ms=1) as stream:
            stream.try_next()
            found = stream.resume_token
    except PyMongoError as error:
        if _has_none(error):
            return None
        there.explain(error)
    return dict(found) if found is not None else None


def changes(
    source: MongoSource, start: Mapping[str, Any], known: Mapping[str, Any] | None, bound: int
) -> Pending | None:
    """Documents inserted, replaced or updated since a place; read on from where it was left.

    A collection that is read whole has changed by a deletion, too.

    Parameters
    ----------
    start : what `token` gave before the collection was read
    known : `watched` of the last answer, whose place is taken if it began at the same start
    bound : events that are read at most; the rest is for the next question

    Returns
    -------
    Pending or None
        None where the history does not reach back so far, or there is none.
    """
    from pymongo.errors import PyMongoError

    place, rows = dict(start), 0
    if known is not None and known["start"] == start:
        place, rows = dict(known["token"]), int(known["rows"])
    kinds = ["insert", "replace", "update"] + (["delete"] if source.incremental is None else [])
    asked: list[dict[str, Any]] = [
        {"$match": {"operationType": {"$in": [*kinds, "drop", "rename", "invalidate"]}}},
        {"$project": {"_id": 1, "operationType": 1}},
    ]
    there = MongoCollection(source, _FIND_SECONDS)
    end, read = time.monotonic() + SECONDS, 0
    try:
        with (
            there.client,
            there.collection.watch(
                asked, resume_after=place, max_await_time_ms=1, batch_size=_BATCH
            ) as stream,
        ):
            while read < bound and time.monotonic() < end:
                event = stream.try_next()
                if event is None:
                    break
                if event["operationType"] not in kinds:
                    return None  # the collection was dropped or renamed: a stream ends there
                read += 1
            place = dict(stream.resume_token or place)
    except PyMongoError as error:
        if _has_none(error):
            return None
        there.explain(error)
    rows += read
    more = "at least " if read == bound else ""
    told = f"{more}{rows:,} changes since the last read"
    return Pending(rows, told, watched={"start": start, "token": place, "rows": rows})


def _has_none(error: Exception) -> bool:
    """Whether the server knows no change streams, or not these any more."""
    from pymongo.errors import OperationFailure

    if not isinstance(error, OperationFailure) or error.code in (13, 18, 8000):
        return False
    return error.has_error_label("NonResumableChangeStreamError") or not heals(error)
