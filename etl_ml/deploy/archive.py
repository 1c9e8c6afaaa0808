"""A package as one `model.tar.gz`, as SageMaker loads it."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping
from functools import cached_property

from etl_ml.deploy.folder import PackageFolder
from etl_ml.deploy.package import UnreadablePackage
from etl_ml.lake.backend import TooLarge

NAME = "model.tar.gz"
_LEVEL = 6
_MOST_FILES = 100


def pack_archive(files: Mapping[str, bytes]) -> bytes:
    """Files as `model.tar.gz`: of the same files the same bytes, whenever and by whomever."""
    packed = io.BytesIO()
    # Neither a time nor a name in gzip's header; nor times and owners in tar's.
    with (
        gzip.GzipFile("", "wb", _LEVEL, packed, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


class ArchivedPackage:
    """The files of one package in an archive; nothing is unpacked onto a disk."""

    def __init__(self, folder: PackageFolder) -> None:
        self._folder = folder
        self.url = f"{folder.url}/{NAME}"

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        """A file's bytes, or None; raises `TooLarge` where it has more than `most`.

        Raises
        ------
        UnreadablePackage
            The archive is damaged, or holds what no package has.
        """
        if self._archive is None:
            return None
        try:
            member = self._members.get(name)
            if member is None:
                return None
            if most is not None and member.size > most:
                raise TooLarge(name, member.size)
            stream = self._archive.extractfile(member)
            return stream.read() if stream else None
        except _DAMAGED as error:
            raise self._damaged(str(error)) from None

    def holds(self, files: Mapping[str, bytes]) -> bool:
        """Whether there are just these files in it."""
        if self._archive is None or self._members.keys() != files.keys():
            return False
        return all(
            self._members[name].size == len(data) and self.get(name) == data
            for name, data in files.items()
        )

    @cached_property
    def _archive(self) -> tarfile.TarFile | None:
        data = self._folder.get(NAME)
        if data is None:
            return None
        try:
            return tarfile.open(fileobj=io.BytesIO(data), mode="r:gz")
        except _DAMAGED as error:
            raise self._damaged(str(error)) from None

    @cached_property
    def _members(self) -> dict[str, tarfile.TarInfo]:
        assert self._archive is not None
        found: dict[str, tarfile.TarInfo] = {}
        for member in self._archive:
            several = member.name in found or len(found) == _MOST_FILES
            if not member.isfile() or "/" in member.name or several:
                raise self._damaged("it holds what no package has")
            found[member.name] = member
        return found

    def _damaged(self, why: str) -> UnreadablePackage:
        return UnreadablePackage(
            f"{NAME} cannot be read: {why}.",
            where=self.url,
            fix="remove it there, then materialize deployed_model again",
        )


_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError)
