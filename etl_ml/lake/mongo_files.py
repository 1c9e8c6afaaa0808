"""Named bytes in MongoDB: small ones in a document each, the others in GridFS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.lake.backend import AlreadyExists, Entry, TooLarge, Unreachable
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from gridfs import GridFSBucket
    from pymongo import MongoClient
    from pymongo.database import Database

_INLINE = 64 << 10
_CHUNK = 1 << 20
_SELECTION_MS = 15_000
_REFUSED = (13, 18, 8000)  # Unauthorized, AuthenticationFailed, and Atlas's own


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

        with self._asking("written", name):
            document = self._stored(name, data)
            try:
                self._names.insert_one(document)
            except DuplicateKeyError:
                self._drop(document)
                # The answer to a write that was made may have been lost, and the write repeated.
                if self.get(name) != data:
                    raise AlreadyExists(name) from None

    def put(self, name: str, data: bytes | Path) -> None:
        with self._asking("written", name):
            document = self._stored(name, data)
            before = self._names.find_one_and_replace({"_id": name}, document, upsert=True)
            if before is not None:
                self._drop(before)

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        from gridfs.errors import NoFile

        with self._asking("read", name):
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

    def delete(self, name: str) -> None:
        with self._asking("removed", name):
            found = self._names.find_one_and_delete({"_id": name})
            if found is not None:
                self._drop(found)

    def folders(self, prefix: str) -> list[str]:
        start = f"{prefix}/" if prefix else ""
        with self._asking("listed", prefix):
            found = self._names.distinct("folder", {"folder": _under(start)})
        return sorted({folder[len(start) :].partition("/")[0] for folder in found} - {""})

    def objects(self, prefix: str) -> list[str]:
        with self._asking("listed", prefix):
            found = [entry["_id"] for entry in self._names.find({"folder": prefix}, {"_id": 1})]
        return sorted(name.rpartition("/")[2] for name in found)

    def walk(self, prefix: str) -> Iterator[Entry]:
        with self._asking("listed", prefix):
            for found in self._names.find({"_id": _under(prefix)}, {"bytes": 1, "modified": 1}):
                yield Entry(found["_id"], found["bytes"], found["modified"])

    @property
    def _names(self) -> Any:
        return self._database["lake.names"]

    @property
    def _files(self) -> GridFSBucket:
        from gridfs import GridFSBucket

        return GridFSBucket(self._database, bucket_name="lake", chunk_size_bytes=_CHUNK)

    def _stored(self, name: str, data: bytes | Path) -> dict[str, Any]:
        """An object's document; what does not fit into it is in GridFS by now."""
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        document: dict[str, Any] = {
            "_id": name,
            "folder": name.rpartition("/")[0],
            "bytes": size,
            "modified": datetime.now(UTC),
        }
        if size <= _INLINE:
            return document | {"data": data if isinstance(data, bytes) else data.read_bytes()}
        if isinstance(data, bytes):
            return document | {"file": self._files.upload_from_stream(name, data)}
        with data.open("rb") as stream:
            return document | {"file": self._files.upload_from_stream(name, stream)}

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


def _under(prefix: str) -> dict[str, str]:
    """Names that begin with a prefix; no name holds the last of all characters."""
    return {"$gte": prefix, "$lt": f"{prefix}\U0010ffff"}


@lru_cache(maxsize=8)
def client_of(uri: str, process: int) -> MongoClient[dict[str, Any]]:
    """One client a process: it keeps its connections, and does not outlive a fork."""
    from pymongo import MongoClient

    waits: Any = {}
    if "serverSelectionTimeoutMS" not in uri:
        waits["serverSelectionTimeoutMS"] = _SELECTION_MS
    return MongoClient(uri, tz_aware=True, appname="etl_ml", **waits)


def unreachable(name: str, what: str, url: str, error: Exception) -> Unreachable:
    code = getattr(error, "code", None)
    if code in _REFUSED:
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
