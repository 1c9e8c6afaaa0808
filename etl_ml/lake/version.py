"""Reading one committed version: its table and its files."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.lake.backend import Backend, TooLarge
from etl_ml.lake.growing import cursor_of
from etl_ml.lake.manifest import Manifest, TableRef, UnreadableVersion
from etl_ml.spec.error import EtlMlError, bounded, listed

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


# By which the cells of a row are known to belong together.
_IDENTITIES = ("_etl_ml_row", "_etl_ml_position")


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
            The table, or this version of it, is gone.
        """
        try:
            return self._backend.scan_table(self._ref.path, self._ref.delta_version)
        except Exception as error:
            raise self.unreadable(error) from error

    def to_polars(self) -> pl.DataFrame:
        """The rows.

        Raises
        ------
        UnreadableVersion
            The table, or a file of it, is gone or damaged.
        """
        import polars as pl

        try:
            return self.scan().collect(engine="streaming")
        except BaseException as error:
            # Of a file that is shorter than it was, Polars panics.
            panic = type(error).__name__ == "PanicException"
            if not panic and not isinstance(error, OSError | pl.exceptions.PolarsError):
                raise
            raise self.unreadable(error) from None

    def unreadable(self, error: BaseException) -> UnreadableVersion:
        """What to say of a table whose reading failed."""
        return UnreadableVersion(
            f"{self._name}: its table cannot be read ({type(error).__name__}).",
            seen=bounded(str(error), 200),
            where=f"{self._backend.url}/{self._ref.path}, Delta version {self._ref.delta_version}",
            fix="ask for an earlier version, or materialize the asset again",
        )

    def to_arrow(self) -> pa.Table:
        return self.to_polars().to_arrow()

    def to_pandas(self) -> pd.DataFrame:
        return self.to_polars().to_pandas()

    def content_hash(self) -> str:
        """16 hex digits over the rows in any order: equal tables, equal hashes.

        Polars' row hash is stable within a release of Polars only, which is all that telling
        stale from fresh needs: after an upgrade everything looks changed once.
        """
        return (self._ref.content or self.content()).rpartition(":")[2]

    def content(self) -> str:
        """The same from the rows as they are now, and the Polars whose hash it is."""
        import polars as pl

        rows = self.scan()
        names = rows.collect_schema().names()
        known = next((name for name in _IDENTITIES if name in names), None)
        row = pl.col(known).hash(0) if known else pl.lit(1, pl.UInt64)
        sums = rows.select((pl.col(name).hash(1) ^ row).hash(2).sum() for name in names)
        values = sums.collect(engine="streaming").row(0)
        text = json.dumps([self.rows, *zip(names, values, strict=True)])
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return f"polars-{pl.__version__}:{digest}"


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
        ref = next((f for f in self.manifest.files if f.path == file), None)
        if ref is None:
            names = listed(f.path for f in self.manifest.files)
            raise MissingVersion(
                f"{self.manifest.asset} {self.version} has no file {file!r}.",
                where=self.url,
                fix=f"its files are {names}",
            )
        try:
            data = self._backend.get(f"{self.manifest.folder}/{file}", most=ref.bytes)
        except TooLarge:
            data = b""
        if data is None or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise UnreadableVersion(
                f"{self.manifest.asset} {self.version}: {file} is "
                + ("missing." if data is None else "not the file that was committed."),
                where=f"{self.url}/{file}",
                fix="ask for an earlier version, or materialize the asset again",
            )
        return data

    def read(self, file: str) -> Any:
        """A file's content: parsed JSON, an array for .npy, text, else bytes."""
        data = self.read_bytes(file)
        suffix = Path(file).suffix
        if suffix == ".json":
            return json.loads(data)
        if suffix == ".jsonl":
            return [json.loads(line) for line in data.splitlines()]
        if suffix == ".npy":
            import numpy as np

            self._check_array(file, data)
            return np.load(io.BytesIO(data), allow_pickle=False)
        return data.decode() if suffix in (".md", ".txt", ".html") else data

    def _check_array(self, file: str, data: bytes) -> None:
        """Refuse a header that claims more than there is, before NumPy makes room for it."""
        from numpy.lib import format as npy

        stream = io.BytesIO(data)
        try:
            old = npy.read_magic(stream) == (1, 0)
            shape, _, dtype = (npy.read_array_header_1_0 if old else npy.read_array_header_2_0)(
                stream
            )
            sound = (
                dtype.hasobject or math.prod(shape) * dtype.itemsize == len(data) - stream.tell()
            )
        except ValueError:
            sound = False
        if not sound:
            raise UnreadableVersion(
                f"{self.manifest.asset} {self.version}: {file} is no sound array.",
                where=f"{self.url}/{file}",
                fix="ask for an earlier version, or materialize the asset again",
            )
