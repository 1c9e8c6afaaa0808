"""MongoDB: replace by a swap of collections, append and upsert by unordered bulk writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etl_ml.lake.progress import Progress
from etl_ml.load.bson_rows import Document, documents, slices
from etl_ml.load.load_error import LoadError
from etl_ml.load.mongodb_insert import (
    BATCH,
    DUPLICATE,
    MESSAGE,
    check,
    insert,
    refuse_large,
)
from etl_ml.load.mongodb_server import Server, connected
from etl_ml.load.mongodb_swap import replace
from etl_ml.load.rows import Rows
from etl_ml.spec.destination import MongoDestination
from etl_ml.spec.error import listed

if TYPE_CHECKING:
    from pymongo.collection import Collection

    from etl_ml.load.load import ModelFiles


def load_rows(
    rows: Rows, destination: MongoDestination, key: Sequence[str], progress: Progress
) -> None:
    """Load rows into a collection.

    Raises
    ------
    LoadError
        `replace`: the collection is as it was. `append` and `upsert`: what has been written stays,
        and is not written twice by the next load.
    """
    with connected(destination) as client:
        server = Server(destination, progress)
        database = client[destination.database]
        if destination.mode == "replace":
            replace(database, rows, destination, server, progress)
        elif destination.mode == "append":
            for batch in rows.batches(BATCH):
                insert(database[destination.collection], batch, rows, server, progress)
        else:
            _upsert(database[destination.collection], rows, key, server, progress)


def load_model(model: ModelFiles, destination: MongoDestination, progress: Progress) -> None:
    """Put a package into GridFS; the document `latest` of `<bucket>.latest` is changed last."""
    from gridfs import GridFS

    with connected(destination) as client:
        server = Server(destination, progress)
        database = client[destination.database]
        bucket = GridFS(database, destination.collection)
        folder = f"{model.pipeline}/{model.version}"

        def put(name: str, data: bytes) -> None:
            identity = f"{folder}/{name}"
            bucket.delete(identity)
            bucket.put(data, _id=identity, filename=identity)

        for name, data in model.files.items():
            server.ask(lambda name=name, data=data: put(name, data))  # type: ignore[misc]
            progress.add(1, len(data))
        latest = {"version": model.version, "files": [f"{folder}/{n}" for n in model.files]}
        pointers = database[f"{destination.collection}.latest"]
        server.ask(lambda: pointers.replace_one({"_id": model.pipeline}, latest, upsert=True))


def _upsert(
    collection: Collection[dict[str, Any]],
    rows: Rows,
    key: Sequence[str],
    server: Server,
    progress: Progress,
) -> None:
    from pymongo.errors import DuplicateKeyError, OperationFailure

    if odd := [name for name in rows.columns if "." in name or name.startswith("$")]:
        raise LoadError(
            f"columns {listed(odd)}: MongoDB cannot update a field with this name.",
            fix="use mode: replace or append, or rename the columns",
        )

    def index() -> None:
        try:
            collection.create_index([(name, 1) for name in key], unique=True)
        except (DuplicateKeyError, OperationFailure) as error:
            if error.code == DUPLICATE:
                raise LoadError(
                    f"{collection.name} has documents with equal {listed(key)}: upsert could not "
                    "tell which one to change.",
                    fix="remove the doubles, or choose another key",
                ) from None
            if error.code not in (85, 86):  # there is such an index, with other options
                raise

    if list(key) != ["_id"]:
        server.ask(index)
    rows.refuse_doubles(key)
    known = {name: rows.columns[name] for name in key}
    others = {name: column for name, column in rows.columns.items() if name not in key}
    for batch in rows.batches(BATCH):
        rows.refuse_null_key(batch, key)
        queries = documents(batch, known)
        changes = documents(batch, others)
        lengths = [len(q) + len(c) + 40 for q, c in zip(queries, changes, strict=True)]
        refuse_large(lengths, batch)
        for start, end in slices(lengths, BATCH, MESSAGE):
            pairs = list(zip(queries[start:end], changes[start:end], strict=True))

            def send(again: bool, pairs: Any = pairs, part: Any = batch[start:end]) -> None:
                updates = [
                    {
                        "q": Document(query),
                        "u": {"$set": Document(change)}
                        if others
                        else {"$setOnInsert": Document(query)},
                        "upsert": True,
                    }
                    for query, change in pairs
                ]
                answer = collection.database.command(
                    {
                        "update": collection.name,
                        "ordered": False,
                        "writeConcern": collection.write_concern.document,
                        "updates": updates,
                    }
                )
                check(answer, part, ignore_known=False)

            server.insist(send)
            progress.add(end - start, sum(lengths[start:end]))
