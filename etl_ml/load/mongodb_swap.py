"""A MongoDB collection replaced as a whole: filled beside it, then renamed over it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etl_ml.lake.progress import Progress
from etl_ml.load.load_error import LoadError
from etl_ml.load.mongodb_insert import BATCH, DUPLICATE, insert
from etl_ml.load.mongodb_server import Server
from etl_ml.load.rows import Rows
from etl_ml.spec.destination import MongoDestination

if TYPE_CHECKING:
    from pymongo.collection import Collection
    from pymongo.database import Database


_LEASE = 20.0  # seconds for which a load is taken to live without a sign of it
_KEPT = ("validator", "validationLevel", "validationAction", "collation")


def replace(
    database: Database[dict[str, Any]],
    rows: Rows,
    destination: MongoDestination,
    server: Server,
    progress: Progress,
) -> None:
    name = destination.collection
    found = server.ask(lambda: list(database.list_collections(filter={"name": name})))
    if found and (found[0].get("type") in ("view", "timeseries") or "capped" in _options(found[0])):
        raise LoadError(
            f"{name} is no ordinary collection: it cannot be swapped.",
            where=destination.display,
            fix="name another collection, or use mode: append",
        )
    with _lease(database, name, server, progress) as lease:
        ours = re.compile(re.escape(name) + r"__etl_ml_[0-9]{10}_[0-9a-f]{8}")
        for leftover in server.ask(database.list_collection_names):
            if ours.fullmatch(leftover):  # a killed load's: nobody else has the lease
                server.ask(lambda leftover=leftover: database.drop_collection(leftover))  # type: ignore[misc]
        side = database[f"{name}__etl_ml_{rows.version}_{uuid.uuid4().hex[:8]}"]
        try:
            _fill(side, database[name], found, rows, server, progress, lease)
        except LoadError:
            server.ask(side.drop)
            raise
        _swap(database, side, name, rows, destination, server)


def _options(found: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = found.get("options", {})
    return options


def _fill(
    side: Collection[dict[str, Any]],
    old: Collection[dict[str, Any]],
    found: Sequence[Mapping[str, Any]],
    rows: Rows,
    server: Server,
    progress: Progress,
    lease: Callable[[], None],
) -> None:
    from pymongo.errors import CollectionInvalid, OperationFailure

    options = {k: v for k, v in _options(found[0]).items() if k in _KEPT} if found else {}

    def create(again: bool) -> None:
        try:
            side.database.create_collection(side.name, **options)
        except CollectionInvalid:
            if not again:
                raise

    server.insist(create)
    for batch in rows.batches(BATCH):
        insert(side, batch, rows, server, progress, fresh=True)
        lease()
    indexes = server.ask(lambda: list(old.list_indexes())) if found else []
    for index in indexes:
        kept = {k: v for k, v in index.items() if k not in ("v", "ns", "key", "name")}
        if index["name"] == "_id_":
            continue

        def build(index: Mapping[str, Any] = index, kept: dict[str, Any] = kept) -> None:
            try:
                side.create_index(list(index["key"].items()), name=index["name"], **kept)
            except OperationFailure as error:
                if error.code == DUPLICATE:
                    raise LoadError(
                        f"{old.name}: its unique index {index['name']!r} does not hold for the "
                        "new rows.",
                        fix="drop the index, or make the rows unique",
                    ) from None
                raise

        server.ask(build)
        lease()
    count = server.ask(side.estimated_document_count)
    if count != rows.total:
        count = server.ask(lambda: side.count_documents({}))
    if count != rows.total:
        raise LoadError(
            f"{old.name}: {count:,} of {rows.total:,} rows arrived; some have one `_id`, or "
            "another load removed them.",
            fix="see that `_id` is unique; then load again",
        )


def _swap(
    database: Database[dict[str, Any]],
    side: Collection[dict[str, Any]],
    name: str,
    rows: Rows,
    destination: MongoDestination,
    server: Server,
) -> None:
    """The one step after which readers see the new version."""
    from pymongo.errors import OperationFailure

    def rename(again: bool) -> None:
        try:
            side.rename(name, dropTarget=True)
        except OperationFailure as error:
            # The first attempt may have got through though its answer did not.
            if error.code != 26 or not again or database[name].count_documents({}) != rows.total:
                raise LoadError(
                    f"{name}: the swap was refused ({error.code}).",
                    where=destination.display,
                    fix="let no other load of this collection run; then load again",
                ) from None

    server.insist(rename)


@contextmanager
def _lease(
    database: Database[dict[str, Any]], name: str, server: Server, progress: Progress
) -> Iterator[Callable[[], None]]:
    """One load of a collection at a time; a killed one's lease runs out by itself.

    Should the lease run out under a load that lives, its side collection is dropped by the next
    one, and it finds that its rows are gone before it swaps.
    """
    from pymongo.errors import DuplicateKeyError

    leases = database[f"{name}__etl_ml_lease"]
    owner = uuid.uuid4().hex
    last = 0.0

    def take(first: bool = False) -> bool:
        now = time.time()
        free = {"$or": [{"owner": owner}, {"until": {"$lt": now}}, {"until": {"$gt": now + 3600}}]}
        try:
            leases.update_one(
                {"_id": "lease", **free}, {"$set": {"owner": owner, "until": now + _LEASE}}, True
            )
        except DuplicateKeyError:
            return False
        return True

    told = False
    while not server.ask(take):
        if not told:
            progress.say("waiting for another load of this collection")
        told = True
        time.sleep(0.5)

    def renew() -> None:
        nonlocal last
        if time.monotonic() - last > _LEASE / 4:
            server.ask(take)
            last = time.monotonic()

    try:
        yield renew
    finally:
        server.ask(lambda: leases.delete_one({"_id": "lease", "owner": owner}))
        if not server.ask(lambda: leases.find_one({})):
            server.ask(leases.drop)
