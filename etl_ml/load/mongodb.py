"""MongoDB: replace by a swap of collections, append and upsert by unordered bulk writes."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from etl_ml.lake.backoff import Backoff
from etl_ml.lake.identity import ROW
from etl_ml.lake.progress import Progress
from etl_ml.load.bson_rows import Document, documents, slices
from etl_ml.load.load_error import LoadError
from etl_ml.load.rows import Rows
from etl_ml.spec.destination import MongoDestination
from etl_ml.spec.error import bounded, listed

if TYPE_CHECKING:
    import polars as pl
    from pymongo import MongoClient
    from pymongo.collection import Collection
    from pymongo.database import Database

    from etl_ml.load.load import ModelFiles

T = TypeVar("T")

_BATCH = 10_000
_MESSAGE = 16_000_000  # bytes a message
_LARGEST = 16 * 1024 * 1024  # bytes a document, the server's limit
_LEASE = 20.0  # seconds for which a load is taken to live without a sign of it
_KEPT = ("validator", "validationLevel", "validationAction", "collation")
_DUPLICATE = 11000


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
    with _connected(destination) as client:
        server = _Server(destination, progress)
        database = client[destination.database]
        if destination.mode == "replace":
            _replace(database, rows, destination, server, progress)
        elif destination.mode == "append":
            for batch in rows.batches(_BATCH):
                _insert(database[destination.collection], batch, rows, server, progress)
        else:
            _upsert(database[destination.collection], rows, key, server, progress)


def load_model(model: ModelFiles, destination: MongoDestination, progress: Progress) -> None:
    """Put a package into GridFS; the document `latest` of `<bucket>.latest` is changed last."""
    from gridfs import GridFS

    with _connected(destination) as client:
        server = _Server(destination, progress)
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


@contextmanager
def _connected(destination: MongoDestination) -> Iterator[MongoClient[dict[str, Any]]]:
    """A client whose server has answered; what cannot heal is named at once."""
    from pymongo import MongoClient
    from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError

    uri = destination.uri.get_secret_value()
    waits = (
        {} if "serverselectiontimeoutms" in uri.lower() else {"serverSelectionTimeoutMS": 10_000}
    )
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(uri, **waits, appname="etl_ml")  # type: ignore[arg-type]
    except (InvalidURI, ConfigurationError, ValueError) as error:
        # Its words quote the URI's parts, but for what is wrong with an option.
        told = bounded(str(error), 120) if "@" not in uri else None
        raise LoadError(
            "the uri of mongodb cannot be used.",
            seen=told,
            where="load: uri",
            fix="write mongodb://user:password@host:port/?options, user and password "
            "percent-encoded",
        ) from None
    with client:
        _refuse_unknown(uri, destination)
        try:
            client[destination.database].command("ping")
            # Whoever may not read cannot see what is there already.
            client[destination.database].list_collection_names(filter={"name": "x"})
        except PyMongoError as error:
            raise _explained(error, destination) from None
        yield client


def _refuse_unknown(uri: str, destination: MongoDestination) -> None:
    """Tell of hosts that have no address at once: the driver would go on asking for them."""
    if uri.startswith("mongodb+srv"):
        return  # the driver has asked for it
    from pymongo.uri_parser import parse_uri

    for host, port in parse_uri(uri)["nodelist"]:
        if host.endswith(".sock"):
            return
        try:
            socket.getaddrinfo(host, port)
        except socket.gaierror as error:
            if error.errno != socket.EAI_NONAME:
                return
        else:
            return
    raise LoadError(
        "the host is unknown.", where=destination.display, fix="correct the host in uri"
    )


class _Server:
    """Asks again, with longer and longer waits, while the server is away."""

    def __init__(self, destination: MongoDestination, progress: Progress) -> None:
        self._destination, self._progress = destination, progress

    def ask(self, question: Callable[[], T]) -> T:
        """The answer.

        Raises
        ------
        LoadError
            The server refuses, or stays away.
        """
        return self.insist(lambda again: question())

    def insist(self, question: Callable[[bool], T]) -> T:
        """As `ask`; the question is told whether it may have got through before."""
        from pymongo.errors import PyMongoError

        backoff, again = Backoff(), False
        while True:
            try:
                return question(again)
            except PyMongoError as error:
                reason = _explained(error, self._destination)
                if not _heals(error):
                    raise reason from None
            self._progress.say(f"interrupted ({reason.what}); trying again")
            backoff.wait(reason)
            again = True


def _heals(error: Exception) -> bool:
    from pymongo.errors import ConnectionFailure, OperationFailure

    if isinstance(error, ConnectionFailure):
        return "SSL" not in str(error)
    # Among them: not primary, interrupted, shutdown, write conflict, lock timeout
    healing = {6, 7, 24, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}
    return isinstance(error, OperationFailure) and (
        error.code in healing or error.has_error_label("RetryableWriteError")
    )


def _explained(error: Exception, destination: MongoDestination) -> LoadError:
    code = getattr(error, "code", None)
    text = str(error)
    what, fix = "the server refused", None
    if code in (18, 8000) or "Authentication failed" in text:
        what, fix = "the user or the password is wrong", "correct user and password in uri"
    elif code == 13:
        what = "the user lacks a right on the database"
        fix = f"grant it readWrite on {destination.database}"
    elif any(t in text for t in ("not known", "nodename", "getaddrinfo", "resolution", "DNS")):
        what, fix = "the host is unknown", "correct the host in uri"
    elif "No replica set members match selector" in text or code in (10107, 13435):
        what, fix = "the replica set has no primary", "wait until one is elected"
    elif code is None:
        what = "the server cannot be reached"
        fix = "start the server, or correct host and port in uri"
    # Its words may quote a document.
    told = f" ({code})" if code is not None and fix is None else ""
    return LoadError(f"{what}{told}.", where=destination.display, fix=fix)


def _fields(rows: Rows) -> dict[str, Any]:
    """A document's fields: `_id` is the row's identity unless the rows have an `_id`."""
    if "_id" in rows.columns:
        return {**rows.columns, ROW: None}
    return {"_id": None, **rows.columns}


def _insert(
    collection: Collection[dict[str, Any]],
    batch: pl.DataFrame,
    rows: Rows,
    server: _Server,
    progress: Progress,
    *,
    fresh: bool = False,
) -> None:
    """Insert a batch; what is there already stays as it is, unless there should be nothing."""
    if "_id" in rows.columns:
        rows.refuse_null_key(batch, ["_id"])
        encoded = documents(batch, _fields(rows))
    else:
        encoded = documents(batch.rename({ROW: "_id"}), _fields(rows))
    lengths = [len(document) for document in encoded]
    _refuse_large(lengths, batch)
    for start, end in slices(lengths, _BATCH, _MESSAGE):
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
            _check(answer, batch[start:end], ignore_known=again or not fresh)

        server.insist(send)
        progress.add(end - start, sum(lengths[start:end]))


def _refuse_large(lengths: Sequence[int], batch: pl.DataFrame) -> None:
    if lengths and max(lengths) > _LARGEST:
        at = lengths.index(max(lengths))
        raise LoadError(
            f"row {batch[ROW][at]} is {lengths[at]:,} bytes as a document; "
            f"MongoDB takes {_LARGEST:,}.",
            fix="set max_length on its text columns, or drop columns",
        )


def _check(answer: Mapping[str, Any], batch: pl.DataFrame, *, ignore_known: bool) -> None:
    """Raise for what a bulk write reports in its answer."""
    from pymongo.errors import WriteConcernError

    for error in answer.get("writeErrors", ()):
        code = error["code"]
        index = re.search(r"index:\s*(?:\S+\$)?(\S+)", error.get("errmsg", ""))
        name = index[1] if index else "?"
        if code == _DUPLICATE and ignore_known and name.startswith("_id"):
            continue
        row = batch[ROW][error["index"]]
        if code == _DUPLICATE:
            raise LoadError(
                f"row {row} has a value that another document has already, "
                f"and index {name!r} is unique.",
                fix="choose a key that is unique, or drop the index",
            )
        raise LoadError(f"row {row} is refused by the server ({code}).")
    if concern := answer.get("writeConcernError"):
        raise WriteConcernError(concern.get("errmsg", ""), concern.get("code"), concern)


def _upsert(
    collection: Collection[dict[str, Any]],
    rows: Rows,
    key: Sequence[str],
    server: _Server,
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
            if error.code == _DUPLICATE:
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
    for batch in rows.batches(_BATCH):
        rows.refuse_null_key(batch, key)
        queries = documents(batch, known)
        changes = documents(batch, others)
        lengths = [len(q) + len(c) + 40 for q, c in zip(queries, changes, strict=True)]
        _refuse_large(lengths, batch)
        for start, end in slices(lengths, _BATCH, _MESSAGE):
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
                _check(answer, part, ignore_known=False)

            server.insist(send)
            progress.add(end - start, sum(lengths[start:end]))


def _replace(
    database: Database[dict[str, Any]],
    rows: Rows,
    destination: MongoDestination,
    server: _Server,
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
    server: _Server,
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
    for batch in rows.batches(_BATCH):
        _insert(side, batch, rows, server, progress, fresh=True)
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
                if error.code == _DUPLICATE:
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
    server: _Server,
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
    database: Database[dict[str, Any]], name: str, server: _Server, progress: Progress
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
