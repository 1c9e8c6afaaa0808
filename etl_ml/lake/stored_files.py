"""Named bytes in a folder, S3, Azure Blob or Google Cloud Storage, by obstore."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from etl_ml.lake.backend import AlreadyExists, Entry, Swept, TooLarge, Unanswered, Unreachable
from etl_ml.lake.backoff import AGAIN, pause
from etl_ml.lake.parquet_file import DiskFull, is_full
from etl_ml.lake.pieces import PIECE, Data, Piece, Stored, pieces_of, size_of
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Answer = TypeVar("Answer")

_OS_ERROR = re.compile(r"([A-Z][A-Za-z -]+) \(os error \d+\)")
_STAGED = re.compile(r".+#\d+")
_PATIENCE = 45  # seconds
_RANGE = 64 << 20
_PART = 8 << 20
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")
_ELSEWHERE = ("PermanentRedirect", "incorrectly configured region", "AuthorizationHeaderMalformed")
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "token has expired", "token is expired")
_REFUSED = (
    *("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed"),
    *(
        "AuthorizationFailure",
        "AuthorizationPermissionMismatch",
        "403 Forbidden",
        "401 Unauthorized",
    ),
)


class StoredFiles:
    """Objects under one root.

    Parameters
    ----------
    url : shown to people
    store : the obstore store
    root : the lake's prefix in the store
    folder : the same root, where it is a folder
    """

    def __init__(
        self, url: str, store: ObjectStore, root: str = "", folder: Path | None = None
    ) -> None:
        self.url = url
        self._store = store
        self._root = f"{root.strip('/')}/" if root.strip("/") else ""
        self._folder = folder

    def create(self, name: str, data: bytes) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def once() -> None:
            with self._asking("written", name):
                obstore.put(self._store, self._at(name), data, mode="create")

        try:
            answered(once)
        except (AlreadyExistsError, PreconditionError):
            # The answer to a write that was made may have been lost, and the write repeated.
            if self.get(name) != data:
                raise AlreadyExists(name) from None

    def put(self, name: str, data: Data) -> None:
        self.tagged(name, data)

    def tagged(self, name: str, data: Data) -> str | None:
        """The same; returns the entity tag, where the store has given one."""
        import obstore

        if isinstance(data, Path) and self._linked(name, data):
            return None
        small = size_of(data) <= _PART  # one request instead of three
        with self._asking("written", name):
            if self._folder is not None and not small:
                _write(self._folder / name, data)
                return None
            given = b"".join(pieces_of(data)) if small else pieces_of(data)
            return obstore.put(self._store, self._at(name), given, chunk_size=_PART)["e_tag"]

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        import obstore

        with self._asking("read", name):
            try:
                found = obstore.get(self._store, self._at(name))
                if most is not None and found.meta["size"] > most:
                    raise TooLarge(name, found.meta["size"])
                return bytes(found.bytes())
            except FileNotFoundError as error:
                if any(text in str(error) for text in _NO_BUCKET):
                    raise
                return None

    def stream(self, name: str, most: int) -> Stored | None:
        import obstore

        with self._asking("read", name):
            try:
                found = obstore.head(self._store, self._at(name))
            except FileNotFoundError as error:
                if any(text in str(error) for text in _NO_BUCKET):
                    raise
                return None
        if found["size"] > most:
            raise TooLarge(name, found["size"])
        path = self._folder / name if self._folder is not None else None
        return Stored(found["size"], self._pieces(name, found["size"]), path)

    def _pieces(self, name: str, size: int) -> Iterator[Piece]:
        import obstore

        if self._folder is not None:
            with (self._folder / name).open("rb") as stream:
                while piece := stream.read(PIECE):
                    yield piece
            return
        # A request for each range: its time limit is that of a whole answer.
        for start in range(0, size, _RANGE):
            with self._asking("read", name):
                end = min(start + _RANGE, size)
                answer = obstore.get(self._store, self._at(name), options={"range": (start, end)})
                yield from answer.stream(PIECE)

    def folders(self, prefix: str) -> list[str]:
        import obstore

        with self._asking("listed", prefix):
            found = obstore.list_with_delimiter(self._store, self._at(prefix))
        return sorted(path.rsplit("/", 1)[-1] for path in found["common_prefixes"])

    def objects(self, prefix: str) -> list[str]:
        import obstore

        with self._asking("listed", prefix):
            found = obstore.list_with_delimiter(self._store, self._at(prefix))
        return sorted(entry["path"].rsplit("/", 1)[-1] for entry in found["objects"])

    def walk(self, prefix: str) -> Iterator[Entry]:
        import obstore

        start = len(self._root)
        with self._asking("listed", prefix):
            for page in obstore.list(self._store, self._at(prefix)):
                for found in page:
                    yield Entry(found["path"][start:], found["size"], found["last_modified"])

    def delete(self, name: str) -> None:
        import obstore

        with self._asking("removed", name), suppress(FileNotFoundError):
            obstore.delete(self._store, self._at(name))

    def sweep(self, prefix: str, before: datetime, *, dry_run: bool) -> Swept:
        """In a folder, the files that obstore writes to before it gives them their name.

        Parts of an upload that was killed are hidden in a bucket: its own rules remove them.
        """
        if self._folder is None:
            return Swept(0, 0)
        old = before.timestamp()
        found = [
            (path, state.st_size)
            for path in (self._folder / prefix).rglob("*#*")
            if _STAGED.fullmatch(path.name) and (state := path.stat()).st_mtime < old
        ]
        if not dry_run:
            for path, _ in found:
                path.unlink(missing_ok=True)
        return Swept(len(found), sum(size for _, size in found))

    def _linked(self, name: str, file: Path) -> bool:
        """Put a local file without copying it, where the lake is on the same disk."""
        if self._folder is None:
            return False
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, path)
        except OSError:  # another disk, one that knows no links, or the name is taken
            return False
        return True

    def _at(self, name: str) -> str:
        return f"{self._root}{name}"

    @contextmanager
    def _asking(self, what: str, name: str) -> Iterator[None]:
        """Say what a store's refusal, or a full disk, means."""
        try:
            yield
        except Exception as error:
            if is_full(error):
                raise DiskFull(
                    f"{name} cannot be written: {bounded(str(error).strip(), 160)}",
                    where=self.url,
                    fix="make room, then materialize again; the last version is as it was",
                ) from None
            told = explained(error) if self._folder is None else explained_of_folder(error)
            if told is not None:
                kind, why, fix = told
                raise kind(
                    f"{name or 'the lake'} cannot be {what}: {why}.",
                    seen=bounded(_first_line(error), 200),
                    where=self.url,
                    fix=fix,
                ) from None
            raise


def _write(path: Path, data: Data) -> None:
    """Write a whole file, which has its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that obstore lists no more than its own unfinished files.
    staged = path.with_name(f"{path.name}#{secrets.randbits(63)}")
    try:
        with staged.open("wb") as sink:
            for piece in pieces_of(data):
                sink.write(piece)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def answered(ask: Callable[[], Answer]) -> Answer:
    """Ask again, a few times, where there was no answer.

    The stores' own clients do so for all but writes that depend on a condition.
    """
    start = time.monotonic()
    for attempt in range(AGAIN):
        try:
            return ask()
        except Unanswered:
            if time.monotonic() - start > _PATIENCE:  # silence has been waited for
                raise
            pause(attempt)
    return ask()


def explained_of_folder(error: Exception) -> tuple[type[Unreachable], str, str] | None:
    """The same for a folder, which is there or is not, and never only slow."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    absent = isinstance(error, AlreadyExistsError | PreconditionError | FileNotFoundError)
    if absent or not isinstance(error, BaseError | OSError):
        return None
    found = _OS_ERROR.search(str(error))
    why = found[1] if found else "the folder does not take it"
    return Unreachable, why, "check that the folder is there, and that you may read and write it"


def explained(error: Exception) -> tuple[type[Unreachable], str, str] | None:
    """Why a store refused, and what to do; None for what is no refusal of a store."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    text = str(error)
    ours = isinstance(error, BaseError | OSError) or type(error).__module__.startswith("_internal")
    if not ours or isinstance(error, AlreadyExistsError | PreconditionError):
        return None
    if any(mark in text for mark in _NO_BUCKET):
        why = "there is no such bucket or container"
        return Unreachable, why, "create it, or correct the URL"
    if any(mark in text for mark in _ELSEWHERE):
        return Unreachable, "the bucket is in another region", "set AWS_REGION to the bucket's"
    if any(mark in text for mark in _EXPIRED):
        return Unreachable, "the credentials have expired", "renew them, then run it again"
    if any(mark in text for mark in _REFUSED) or isinstance(error, PermissionError):
        return (
            Unreachable,
            "the credentials are refused, or may not do this",
            "check the credentials and that they may read, write, list and delete here",
        )
    if isinstance(error, FileNotFoundError) or type(error).__name__ == "TableNotFoundError":
        return None
    return (
        Unanswered,
        "the store does not answer as it should",
        "check the endpoint, and that the store is up; then run it again: nothing was committed",
    )


def _first_line(error: Exception) -> str:
    """The cause, without queries and without the store's answer, which may hold names of keys."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    _, _, cause = line.partition("  - ")
    told = f"{line.partition(':')[0]}: {cause}" if cause else line
    return re.sub(r"\?[^ ]*|^Generic \w+ error: |Error performing list request: ", "", told)
