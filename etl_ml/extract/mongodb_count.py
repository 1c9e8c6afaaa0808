"""How many documents of a collection are new: one or two counts over an index."""

from __future__ import annotations

from typing import Any

from etl_ml.extract.decoding import ID
from etl_ml.extract.mongodb_collection import MongoCollection
from etl_ml.extract.pending import SECONDS, Held, Pending
from etl_ml.extract.position import Cursor
from etl_ml.extract.tail import Seen
from etl_ml.spec.source import MongoSource

_FIND_SECONDS = 5.0
_MILLISECONDS = int(SECONDS * 1000)
_NOT_ALLOWED, _ON_VIEW = 13, 166


def count_documents(source: MongoSource, cursor: Cursor, seen: Seen | None, bound: int) -> Pending:
    """Documents that an incremental read has not seen.

    Raises
    ------
    SourceError
        The server does not answer, or refuses.
    """
    from pymongo.errors import ExecutionTimeout, PyMongoError

    there = MongoCollection(source, _FIND_SECONDS)
    try:
        with there.client:
            index = _index(there, cursor.name)
            if seen is None:
                rows = _count(there, there.filter, bound, index)
                return Pending(rows, f"{_about(rows, bound)} documents, nothing was read yet")
            name, window = cursor.name, {"gte": seen.since, "lte": seen.position}
            behind = there.where(name, gt=seen.position)
            new = _count(there, behind, seen.past + bound, index) - seen.past
            late = _count(there, there.where(name, **window), seen.window + bound, index)
    except ExecutionTimeout:
        hint = "" if index else f"; is there an index on {cursor.name}?"
        return Pending(None, f"the documents cannot be counted within {SECONDS:g} s{hint}")
    except PyMongoError as error:
        there.explain(error)
    rows = max(new, 0) + max(late - seen.window, 0)
    return Pending(rows, f"{_about(rows, bound)} new documents by {cursor.name}")


def held_documents(source: MongoSource) -> Held:
    """What a collection that is read whole holds: its number of documents and its last `_id`.

    Raises
    ------
    SourceError
        The server does not answer, or refuses.
    """
    from pymongo.errors import ExecutionTimeout, PyMongoError

    there = MongoCollection(source, _FIND_SECONDS)
    try:
        with there.client:
            found = there.collection.find(there.filter, {ID: 1}, max_time_ms=_MILLISECONDS)
            last = next(iter(found.sort(ID, -1).limit(1)), {ID: ""})
            rows = _total(there)
    except ExecutionTimeout:
        return Held(None)
    except PyMongoError as error:
        there.explain(error)
    return Held(f"{rows} {last[ID]}", rows, blind=", by number and last _id")


def _total(there: MongoCollection) -> int:
    from pymongo.errors import OperationFailure

    if not there.filter:
        try:
            return there.collection.estimated_document_count(maxTimeMS=_MILLISECONDS)
        except OperationFailure as error:
            if error.code != _ON_VIEW:
                raise
    return there.collection.count_documents(there.filter, maxTimeMS=_MILLISECONDS)


def _count(there: MongoCollection, query: dict[str, Any], limit: int, index: str | None) -> int:
    options: dict[str, Any] = {"hint": index} if index else {}
    return there.collection.count_documents(query, limit=limit, maxTimeMS=_MILLISECONDS, **options)


def _index(there: MongoCollection, field: str) -> str | None:
    """The index that begins with a field and has every document, for the planner's sake."""
    from pymongo.errors import OperationFailure

    try:
        found = list(there.collection.list_indexes())
    except OperationFailure as error:
        if error.code in (_ON_VIEW, _NOT_ALLOWED):
            return None
        raise
    for index in found:
        whole = not index.get("sparse") and "partialFilterExpression" not in index
        if whole and next(iter(index["key"].items())) in ((field, 1), (field, -1)):
            return str(index["name"])
    return None


def _about(rows: int, bound: int) -> str:
    return f"{rows:,} or more" if rows >= bound else f"{rows:,}"
