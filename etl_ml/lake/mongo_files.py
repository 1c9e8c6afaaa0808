"""Named bytes in MongoDB: small ones in a document each, the others in GridFS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from etl_ml.lake.backend import AlreadyExists, Entry, Swept, TooLarge, Unreachable
from etl_ml.lake.backoff import AGAIN, pause
from etl_ml.lake.pieces import PIECE, Data, Piece, Stored, pieces_of, size_of
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from gridfs import GridFSBucket
    from pymongo import MongoClient
    from pymongo.database import Database

_INLINE = 64 << 10
_CHUNK = 1 << 20
_WAITS = {"serverSelectionTimeoutMS": 15_000, "socketTimeoutMS": 60_000}
_REFUSED = (13, 18, 8000)  # Unauthorized, AuthenticationFailed, and Atlas's own
_EXPIRED = 391  # ReauthenticationRequired

Answer = TypeVar("Answer")


class MongoFiles:
    """Objects in one database.

    Parameters
    ----------
    url : shown to people, without user and password
    """

    def __init__(self, url: str, database: Database[dict[str, Any]]) -> None:
        self.url = url
        self._database = database

    def create(self, name: str, data: bytes) -> None:
        from pymongo.errors import DuplicateKeyError

        def once() -> None:
            document = self._stored(name, data)
            try:
                self._names.insert_one(document)
            except DuplicateKeyError:
                self._drop(document)
                # The answer to a write that was made may have been lost, and the write repeated.
                if self.get(name) != data:
                    raise AlreadyExists(name) from None

        self._ask("written", name, once)

    def put(self, name: str, data: Data) -> None:
        def once() -> None:
            document = self._stored(name, data)
            before = self._names.find_one_and_replace({"_id": name}, document, upsert=True)
            if before is not None and before.get("file") != document.get("file"):
                self._drop(before)

        self._ask("written", name, once)

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        from gridfs.errors import NoFile

        def once() -> bytes | None:
            while True:
                found = self._names.find_one({"_id": name})
                if found is None:
                    return None
                if most is not None and found["bytes"] > most:
                    raise TooLarge(name, found["bytes"])
                if "file" not in found:
                    return bytes(found["data"])
                try:
                    return bytes(self._files.open_download_stream(found["file"]).read())
                except NoFile:
                    if self._names.find_one({"_id": name}) == found:
                        return None
                    # Replaced between the two questions.

        return self._ask("read", name, once)

    def stream(self, name: str, most: int) -> Stored | None:
        found = self._ask("read", name, lambda: self._names.find_one({"_id": name}))
        if found is None:
            return None
        if found["bytes"] > most:
            raise TooLarge(name, found["bytes"])
        return Stored(found["bytes"], self._pieces(found))

    def _pieces(self, found: Mapping[str, Any]) -> Iterator[Piece]:
        from gridfs.errors import GridFSError

        if "file" not in found:
            yield bytes(found["data"])
            return

        def piece(at: int) -> bytes:
            try:
                with self._files.open_download_stream(found["file"]) as stored:
                    stored.seek(at)
                    return bytes(stored.read(PIECE))
            except GridFSError:  # chunks that are gone, or too many: the hash will not be right
                return b""

        for at in range(0, found["bytes"], PIECE):
            yield self._ask("read", found["_id"], partial(piece, at))

    def delete(self, name: str) -> None:
        def once() -> None:
            found = self._names.find_one_and_delete({"_id": name})
            if found is not None:
                self._drop(found)

        self._ask("removed", name, once)

    def folders(self, prefix: str) -> list[str]:
        start = f"{prefix}/" if prefix else ""
        ask = partial(self._names.distinct, "folder", {"folder": _under(start)})
        found = self._ask("listed", prefix, ask)
        return sorted({folder[len(start) :].partition("/")[0] for folder in found} - {""})

    def objects(self, prefix: str) -> list[str]:
        ask = partial(self._names.find, {"folder": prefix}, {"_id": 1})
        found = self._ask("listed", prefix, lambda: list(ask()))
        return sorted(entry["_id"].rpartition("/")[2] for entry in found)

    def walk(self, prefix: str) -> Iterator[Entry]:
        ask = partial(self._names.find, {"_id": _under(prefix)}, {"bytes": 1, "modified": 1})
        for found in self._ask("listed", prefix, lambda: list(ask())):
            yield Entry(found["_id"], found["bytes"], found["modified"])

    def sweep(self, prefix: str, before: datetime, *, dry_run: bool) -> Swept:
        return self._ask("removed", prefix, lambda: self._sweep(prefix, before, dry_run))

    def _sweep(self, prefix: str, before: datetime, dry_run: bool) -> Swept:
        """What was uploaded for a name that was never written, or replaced meanwhile."""
        from bson import ObjectId

        old = {"_id": {"$lt": ObjectId.from_datetime(before)}}
        kept = set(self._names.distinct("file"))
        ended = self._database["lake.files"].find({**old, "filename": _under(prefix)})
        unnamed = {f["_id"]: f["length"] for f in ended if f["_id"] not in kept}
        # One that was killed while it uploaded has left parts of no file at all.
        chunks = self._database["lake.chunks"]
        parts = chunks.distinct("files_id", {"files_id": old["_id"]})
        files = set(self._database["lake.files"].distinct("_id"))
        cut = {f: _CHUNK * chunks.count_documents({"files_id": f}) for f in set(parts) - files}
        if not dry_run:
            for file in (*unnamed, *cut):
                chunks.delete_many({"files_id": file})
                self._database["lake.files"].delete_one({"_id": file})
        return Swept(len(unnamed) + len(cut), sum(unnamed.values()) + sum(cut.values()))

    @property
    def _names(self) -> Any:
        return self._database["lake.names"]

    @cached_property  # it looks once whether its indexes are there
    def _files(self) -> GridFSBucket:
        from gridfs import GridFSBucket

        return GridFSBucket(self._database, bucket_name="lake", chunk_size_bytes=_CHUNK)

    def _stored(self, name: str, data: Data) -> dict[str, Any]:
        """An object's document; what does not fit into it is in GridFS by now."""
        size = size_of(data)
        document: dict[str, Any] = {
            "_id": name,
            "folder": name.rpartition("/")[0],
            "bytes": size,
            "modified": datetime.now(UTC),
        }
        if size <= _INLINE:
            return document | {"data": b"".join(pieces_of(data))}
        with self._files.open_upload_stream(name) as sink:
            for piece in pieces_of(data):
                sink.write(bytes(piece))
        return document | {"file": sink._id}

    def _drop(self, document: Mapping[str, Any]) -> None:
        from gridfs.errors import NoFile

        if "file" in document:
            try:
                self._files.delete(document["file"])
            except NoFile:
                return

    @contextmanager
    def _asking(self, what: str, name: str) -> Iterator[None]:
        """Say what a refusal of the server means."""
        from pymongo.errors import PyMongoError

        try:
            yield
        except PyMongoError as error:
            raise unreachable(name or "the lake", what, self.url, error) from None

    def _ask(self, what: str, name: str, ask: Callable[[], Answer]) -> Answer:
        """Ask something that may be asked again, and again where the connection broke."""
        with self._asking(what, name):
            return again(ask)


def _under(prefix: str) -> dict[str, str]:
    """Names that begin with a prefix; no name holds the last of all characters."""
    return {"$gte": prefix, "$lt": f"{prefix}\U0010ffff"}


def again(ask: Callable[[], Answer]) -> Answer:
    """Ask until the connection lasts, a few times: the driver itself asks twice.

    A server that is away has been waited for, and one that does not answer has been given a minute,
    twice.
    """
    from pymongo.errors import AutoReconnect, NetworkTimeout, ServerSelectionTimeoutError

    for attempt in range(AGAIN):
        try:
            return ask()
        except (NetworkTimeout, ServerSelectionTimeoutError):
            raise
        except AutoReconnect:
            pause(attempt)
    return ask()


@lru_cache(maxsize=8)
def client_of(uri: str, process: int) -> MongoClient[dict[str, Any]]:
    """One client a process: it keeps its connections, and does not outlive a fork."""
    from pymongo import MongoClient

    waits: Any = {name: ms for name, ms in _WAITS.items() if name.lower() not in uri.lower()}
    return MongoClient(uri, tz_aware=True, appname="etl_ml", **waits)


def unreachable(name: str, what: str, url: str, error: Exception) -> Unreachable:
    code = getattr(error, "code", None)
    if code == _EXPIRED:
        why, fix = "the credentials have expired", "renew them, then run it again"
    elif code in _REFUSED:
        why = "the credentials are refused, or may not do this"
        fix = "check user, password, authSource, and that the role may read and write here"
    else:
        why = "the server does not answer as it should"
        fix = "check the host, and that the server is up; then run it again: nothing was committed"
    found = Unreachable(
        f"{name} cannot be {what}: {why}.",
        seen=bounded(str(error).partition(", Timeout:")[0], 160),
        where=url,
        fix=fix,
    )
    found.heals = code not in _REFUSED
    return found
