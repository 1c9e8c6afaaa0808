"""Reading one committed version: its table and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.lake.arrays import array_of
from etl_ml.lake.backend import Backend, TooLarge
from etl_ml.lake.content import comparable, content_of
from etl_ml.lake.growing import cursor_of
from etl_ml.lake.manifest import FileRef, Manifest, TableRef, UnreadableVersion
from etl_ml.lake.pieces import Piece, Sha256, Stored, read_into
from etl_ml.spec.error import EtlMlError, bounded, listed

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_FIX = "ask for an earlier version, or materialize the asset again"


# Tables that were touched after their commit, and found to hold what was committed.
_PROVEN: set[tuple[str, str, int, str | None]] = set()


class MissingVersion(EtlMlError):
    """A pipeline, asset, version or file that the lake does not have."""


class Table:
    """The rows of one version, in no order: sort by `_etl_ml_row` where order matters."""

    def __init__(self, backend: Backend, ref: TableRef, name: str) -> None:
        self._backend, self._ref, self._name = backend, ref, name

    @property
    def rows(self) -> int:
        return self._ref.rows

    @property
    def cursor(self) -> dict[str, Any] | None:
        """Where an incremental source was read up to; None for a snapshot."""
        return cursor_of(self.stamp)

    @cached_property
    def stamp(self) -> Mapping[str, str]:
        """What the commit that made the table was stamped with: run, version, cursor."""
        return self._backend.table_metadata(self._ref.path, self._ref.delta_version)

    def scan(self) -> pl.LazyFrame:
        """The rows, read when they are collected.

        Raises
        ------
        UnreadableVersion
            The table, or this version of it, is gone, or what it holds was changed.
        """
        try:
            rows, seal = self._backend.scan_table(self._ref.path, self._ref.delta_version)
        except EtlMlError:  # a store that is away is no damage
            raise
        except Exception as error:
            raise self.unreadable(error) from error
        if self._ref.seal is not None and seal != self._ref.seal:
            self._prove(rows, seal)
        return rows

    def _prove(self, rows: pl.LazyFrame, seal: str | None) -> None:
        """Find out whether a table that was touched since its commit still holds the same."""
        place = (self._backend.url, self._ref.path, self._ref.delta_version, seal)
        if place in _PROVEN:
            return
        try:
            found = content_of(rows)
        except BaseException as error:
            raise self._told(error) from None
        if comparable(found, self._ref.content) and found != self._ref.content:
            raise self.changed()
        _PROVEN.add(place)

    def to_polars(self) -> pl.DataFrame:
        """The rows.

        Raises
        ------
        UnreadableVersion
            The table, or a file of it, is gone or damaged.
        """
        try:
            return self.scan().collect(engine="streaming")
        except BaseException as error:
            raise self._told(error) from None

    def _told(self, error: BaseException) -> BaseException:
        """What a damaged table brings about, in words; all else as it is."""
        import polars as pl

        # Of a file that is shorter than it was, Polars panics.
        panic = type(error).__name__ == "PanicException"
        if panic or isinstance(error, OSError | pl.exceptions.PolarsError):
            return self.unreadable(error)
        return error

    def changed(self) -> UnreadableVersion:
        """What to say of rows that are not those of the commit."""
        return UnreadableVersion(
            f"{self._name}: its rows are not those that were committed.",
            where=f"{self._backend.url}/{self._ref.path}, Delta version {self._ref.delta_version}",
            fix=_FIX,
        )

    def unreadable(self, error: BaseException) -> UnreadableVersion:
        """What to say of a table whose reading failed."""
        return UnreadableVersion(
            f"{self._name}: its table cannot be read ({type(error).__name__}).",
            seen=bounded(str(error), 200),
            where=f"{self._backend.url}/{self._ref.path}, Delta version {self._ref.delta_version}",
            fix=_FIX,
        )

    def to_arrow(self) -> pa.Table:
        return self.to_polars().to_arrow()

    def to_pandas(self) -> pd.DataFrame:
        return self.to_polars().to_pandas()

    def content_hash(self) -> str:
        """24 hex digits over the rows in any order: equal tables, equal hashes.

        Polars' hash is stable within a release of Polars only, which is all that telling stale from
        fresh needs: after an upgrade everything looks changed once.
        """
        return (self._ref.content or self.content()).rpartition(":")[2]

    def content(self) -> str:
        """The same from the rows as they are now, and the Polars whose hash it is."""
        return content_of(self.scan())


class Version:
    """One committed version of one asset."""

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        self._backend, self.manifest = backend, manifest

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def url(self) -> str:
        return f"{self._backend.url}/{self.manifest.folder}"

    @cached_property
    def table(self) -> Table:
        if self.manifest.table is None:
            raise MissingVersion(
                f"{self.manifest.asset} has no table.",
                where=self.url,
                fix=f"its files are {listed(file.path for file in self.manifest.files)}",
            )
        name = f"{self.manifest.asset} {self.version}"
        return Table(self._backend, self.manifest.table, name)

    def read_bytes(self, file: str) -> bytes:
        """A file's bytes, once their hash has been checked.

        Raises
        ------
        MissingVersion
            This version has no such file.
        UnreadableVersion
            The file is gone, or is not what was committed.
        """
        ref = self._ref(file)
        found: list[Piece] = []
        with Sha256() as digest:
            for piece in self._stored(ref).pieces:
                found.append(piece)
                digest.update(piece)
            self._check(ref, digest.hexdigest())
        return b"".join(found)

    def read(self, file: str) -> Any:
        """A file's content: parsed JSON, an array for .npy, text, else bytes; see `read_bytes`."""
        suffix = Path(file).suffix
        if suffix == ".npy":
            return self._array(file)
        data = self.read_bytes(file)
        if suffix == ".json":
            return json.loads(data)
        if suffix == ".jsonl":
            return [json.loads(line) for line in data.splitlines()]
        return data.decode() if suffix in (".md", ".txt", ".html") else data

    def _array(self, file: str) -> Any:
        import numpy as np

        ref = self._ref(file)
        stored = self._stored(ref)  # which has told by now that this is how many bytes there are
        data = np.empty(ref.bytes, np.uint8)
        self._check(ref, read_into(data.data, stored))
        try:
            return array_of(data)
        except ValueError as error:
            raise self._refused(file, f"is no sound array: {error}") from None

    def _ref(self, file: str) -> FileRef:
        ref = next((f for f in self.manifest.files if f.path == file), None)
        if ref is None:
            names = listed(f.path for f in self.manifest.files)
            raise MissingVersion(
                f"{self.manifest.asset} {self.version} has no file {file!r}.",
                where=self.url,
                fix=f"its files are {names}",
            )
        return ref

    def _stored(self, ref: FileRef) -> Stored:
        try:
            stored = self._backend.stream(f"{self.manifest.folder}/{ref.path}", ref.bytes)
        except TooLarge:
            raise self._refused(ref.path, "is not the file that was committed") from None
        if stored is None:
            raise self._refused(ref.path, "is missing")
        if stored.bytes != ref.bytes:
            raise self._refused(ref.path, "is not the file that was committed")
        return stored

    def _check(self, ref: FileRef, sha256: str) -> None:
        if sha256 != ref.sha256:
            raise self._refused(ref.path, "is not the file that was committed")

    def _refused(self, file: str, why: str) -> UnreadableVersion:
        return UnreadableVersion(
            f"{self.manifest.asset} {self.version}: {file} {why}.",
            where=f"{self.url}/{file}",
            fix=_FIX,
        )
