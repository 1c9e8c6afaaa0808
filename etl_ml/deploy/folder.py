"""Where a package lies: named bytes under a prefix, in a lake or wherever a target keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Objects(Protocol):
    """Named bytes; a lake's backend is one."""

    url: str

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        """An object's bytes, or None; raises `TooLarge` where it has more than `most`."""

    def put(self, name: str, data: bytes) -> None:
        """Write a whole object, in place of any that is there."""

    def create(self, name: str, data: bytes) -> None:
        """Write a whole object if the name is free; raises `AlreadyExists` where it is not."""

    def objects(self, prefix: str) -> list[str]:
        """Names of the objects directly under a prefix, sorted."""


class PackageFolder(Protocol):
    """The files of one package."""

    @property
    def url(self) -> str: ...

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        """A file's bytes, or None; raises `TooLarge` where it has more than `most`."""


class NewFolder(PackageFolder, Protocol):
    """Where a package is written to, file by file."""

    def put(self, name: str, data: bytes) -> None:
        """Write a whole file."""


@dataclass(frozen=True)
class Folder:
    """A part of a store, by names relative to it."""

    store: Objects
    prefix: str

    @property
    def url(self) -> str:
        return f"{self.store.url}/{self.prefix}"

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        return self.store.get(f"{self.prefix}/{name}", most=most)

    def put(self, name: str, data: bytes) -> None:
        self.store.put(f"{self.prefix}/{name}", data)

    def create(self, name: str, data: bytes) -> None:
        self.store.create(f"{self.prefix}/{name}", data)
