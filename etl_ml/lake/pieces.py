"""Bytes on their way to and from a store, piece by piece: hashed on the way, never copied whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PIECE = 4 << 20
_WORTH_A_THREAD = 1 << 20

Piece = bytes | memoryview
Data = bytes | Path | tuple[memoryview, ...]
"""An object's bytes: as they are, in a local file, or in several buffers one after the other."""


class Stored(NamedTuple):
    """An object as it is in a store: its size in bytes, and its bytes piece by piece.

    `path` is where they are too, if that is a local file.
    """

    bytes: int
    pieces: Iterator[Piece]
    path: Path | None = None


def size_of(data: Data) -> int:
    """How many bytes there are."""
    if isinstance(data, Path):
        return data.stat().st_size
    return len(data) if isinstance(data, bytes) else sum(part.nbytes for part in data)


def pieces_of(data: Data) -> Iterator[Piece]:
    """The bytes in pieces of at most 4 MiB; those in memory are not copied."""
    if isinstance(data, Path):
        with data.open("rb") as stream:
            while piece := stream.read(PIECE):
                yield piece
        return
    for part in (memoryview(data),) if isinstance(data, bytes) else data:
        for start in range(0, part.nbytes, PIECE):
            yield part[start : start + PIECE]


def sha256_of(data: Data) -> str:
    """The digest of all bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    for piece in pieces_of(data):
        digest.update(piece)
    return digest.hexdigest()


@contextmanager
def sha256_beside(data: Data) -> Iterator[Callable[[], str]]:
    """The same while something else is done with the bytes; yields what waits for the digest."""
    if size_of(data) < _WORTH_A_THREAD:
        yield lambda: sha256_of(data)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="sha256") as thread:
        yield thread.submit(sha256_of, data).result


class Sha256:
    """A digest of bytes as they come: of each piece while the next one is under way."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None

    def __enter__(self) -> Sha256:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def update(self, piece: Piece) -> None:
        """Take the next bytes, which nobody may change any more."""
        self._settle()
        if self._thread is None:
            if len(piece) < _WORTH_A_THREAD:
                self._digest.update(piece)
                return
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        self._last = self._thread.submit(self._digest.update, piece)

    def hexdigest(self) -> str:
        self._settle()
        return self._digest.hexdigest()

    def _settle(self) -> None:
        if self._last is not None:
            self._last.result()


def read_into(target: memoryview, stored: Stored) -> str:
    """Fill memory with an object's bytes, and give their digest as hexadecimal digits.

    What does not fit is left out, and the digest is not that of the object.
    """
    filled = 0
    with Sha256() as digest:
        if stored.path is not None:
            with stored.path.open("rb", buffering=0) as stream:
                while count := stream.readinto(target[filled : filled + PIECE]):
                    digest.update(target[filled : filled + count])
                    filled += count
        else:
            for piece in stored.pieces:
                here = target[filled : filled + len(piece)]
                here[:] = piece[: len(here)]
                digest.update(here)
                filled += len(here)
        return digest.hexdigest()
