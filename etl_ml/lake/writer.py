"""Writing one version: claimed first, committed last."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.lake.arrays import array_file
from etl_ml.lake.backend import AlreadyExists, Backend, Batches, TableHandle, Unreachable
from etl_ml.lake.content import Counted, content_of, counted, together
from etl_ml.lake.documents import dump_json
from etl_ml.lake.growing import Grow, Increment
from etl_ml.lake.manifest import FileRef, Manifest, TableRef
from etl_ml.lake.parquet_file import ParquetFile, room
from etl_ml.lake.pieces import Data, sha256_beside, sha256_of, size_of
from etl_ml.lake.version import Table, Version

if TYPE_CHECKING:
    import polars as pl

LATEST = "latest"
"""The file beside an asset's versions that hints at the newest; never trusted."""

_MEDIA = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".gz": "application/gzip",
    ".npy": "application/x-npy",
    ".png": "image/png",
    ".html": "text/html",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".skops": "application/zip",
}


@dataclass(frozen=True)
class Contents:
    """What a stage hands to the lake: at most one table, and files by name.

    A file is bytes, text, an array (.npy), what JSON can hold, or a function that writes it to an
    open binary file. `grow` instead of `table` lets the table grow, in which case there are no
    files. `made_from` names the versions that it descends from where these are not the step's
    inputs.
    """

    table: ParquetFile | pl.LazyFrame | Batches | None = None
    files: Mapping[str, Any] = field(default_factory=dict)
    grow: Grow | None = None
    made_from: Mapping[str, str] | None = None


class Writer:
    """A version that has been claimed and is not yet committed.

    Parameters
    ----------
    near : the table's version in the asset's newest one, as far as that is known
    """

    def __init__(self, backend: Backend, draft: Manifest, near: int | None = None) -> None:
        self._backend, self._draft, self._near = backend, draft, near
        self._table: TableRef | None = None
        self._files: dict[str, FileRef] = {}

    @property
    def version(self) -> str:
        return self._draft.version

    def table(self, rows: ParquetFile | pl.LazyFrame | Batches) -> None:
        """Write the version's rows, in one Delta commit."""
        path = f"{self._draft.pipeline}/tables/{self._draft.asset}"
        with counted(rows) as given:
            version, count, seal = self._backend.write_table(path, given, self._stamp(), self._near)
            self.refer(TableRef(path, version, count, given.content, seal))

    def follow(self, handle: TableHandle, increment: Increment, before: str | None = None) -> None:
        """Commit what follows on a table that was opened before.

        Parameters
        ----------
        before : what the table's rows amount to by now, where that is known

        Raises
        ------
        Moved
            Another writer was first.
        """
        assert increment.rows is not None
        path = f"{self._draft.pipeline}/tables/{self._draft.asset}"
        stamp = self._stamp() | {"cursor": json.dumps(increment.cursor, sort_keys=True)}
        given = Counted(increment.rows)
        if handle.rows == 0:
            before = content_of(handle.scan())
        version, rows, seal = handle.commit(given, stamp, replace=increment.replace)
        content = given.content if increment.replace else together(before, given.content)
        self.refer(TableRef(path, version, rows, content, seal))

    def refer(self, table: TableRef) -> None:
        """Take a table as it is."""
        self._table = table

    def _stamp(self) -> dict[str, str]:
        """What a Delta commit carries: enough to write the manifest from."""
        return {
            "run_id": self._draft.run_id,
            "version": self.version,
            "created_at": self._draft.created_at,
            "code_version": self._draft.code_version,
        }

    def file(self, name: str, content: Any) -> None:
        """Write one of the version's files; see `Contents` for what `content` may be."""
        with encoded(content) as data, sha256_beside(data) as digest:
            self._backend.put(f"{self._draft.folder}/{name}", data)
            self._files[name] = _ref(name, data, digest())

    def commit(self) -> Version:
        """Create the manifest: from here on, and not before, readers see the version."""
        files = tuple(self._files.values())
        manifest = replace(self._draft, table=self._known_again(), files=files)
        name = f"{manifest.folder}/manifest.json"
        try:
            self._backend.create(name, manifest.dump())
        except AlreadyExists:
            # Another writer found our Delta commit and has written this for us.
            manifest = Manifest.load(self._backend.get(name) or b"", f"{self._backend.url}/{name}")
        with suppress(Unreachable):  # it is committed: whoever looks for it can do without
            self._backend.put(
                f"{manifest.folder.rpartition('/')[0]}/{LATEST}", manifest.version.encode()
            )
        return Version(self._backend, manifest)

    def _known_again(self) -> TableRef | None:
        """The table with its content, read back where what was written does not tell it."""
        if self._table is None or self._table.content is not None:
            return self._table
        name = f"{self._draft.asset} {self.version}"
        return replace(self._table, content=Table(self._backend, self._table, name).content())


@contextmanager
def encoded(content: Any) -> Iterator[Data]:
    """A file's content as bytes; in a temporary file where it is written in a stream."""
    if callable(content):
        with tempfile.TemporaryDirectory(prefix="etl_ml_") as folder, room(Path(folder)):
            path = Path(folder, "file")
            with path.open("wb") as sink:
                content(sink)
            yield path
    elif isinstance(content, bytes | str):
        yield content.encode() if isinstance(content, str) else content
    elif hasattr(content, "dtype"):
        yield array_file(content)
    else:
        yield dump_json(content)


def file_ref(name: str, data: Data) -> FileRef:
    """Size, hash and media type of a file."""
    return _ref(name, data, sha256_of(data))


def _ref(name: str, data: Data, sha256: str) -> FileRef:
    media = _MEDIA.get(Path(name).suffix, "application/octet-stream")
    return FileRef(name, size_of(data), sha256, media)
