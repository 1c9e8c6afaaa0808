"""Named bytes in a folder, S3, Azure Blob or Google Cloud Storage, by obstore."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from etl_ml.lake.backend import AlreadyExists, Entry, TooLarge, Unanswered, Unreachable
from etl_ml.lake.parquet_file import DiskFull, is_full
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Answer = TypeVar("Answer")

_AGAIN = 2
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")
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

    def put(self, name: str, data: bytes | Path) -> None:
        import obstore

        with self._asking("written", name):
            obstore.put(self._store, self._at(name), data)

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

    def link(self, name: str, file: Path) -> None:
        """Put a local file, without a copy where the lake is on the same disk."""
        if self._folder is not None:
            try:
                os.link(file, self._folder / name)
            except OSError:  # another disk, or one that knows no links
                pass
            else:
                return
        self.put(name, file)

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
            if self._folder is None and (told := explained(error)):
                kind, why, fix = told
                raise kind(
                    f"{name or 'the lake'} cannot be {what}: {why}.",
                    seen=bounded(_first_line(error), 160),
                    where=self.url,
                    fix=fix,
                ) from None
            raise


def answered(ask: Callable[[], Answer]) -> Answer:
    """Ask again, a few times, where there was no answer.

    The stores' own clients do so for all but writes that depend on a condition.
    """
    for attempt in range(_AGAIN):
        try:
            return ask()
        except Unanswered:
            time.sleep(random.uniform(0, 0.5 * 2**attempt))
    return ask()


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
    """The cause, without the store's answer, which may hold headers and names of keys."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    _, _, cause = line.partition("  - ")
    return f"{line.partition(':')[0]}: {cause}" if cause else line
