"""Files of an object store or a web server, fetched and read one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.extract.remote import fetched
from etl_ml.extract.source_error import SourceError, refuse
from etl_ml.lake.backend import Batches
from etl_ml.lake.stores import StoreSettings
from etl_ml.spec.error import listed
from etl_ml.spec.source import public

if TYPE_CHECKING:
    import pyarrow as pa


class RemoteFiles:
    """The rows of several objects under the schema of the first.

    Two of them at most are on disk at a time: the first, whose columns are asked for before
    anything is read, and the one that is being read.
    """

    def __init__(
        self,
        names: Sequence[str],
        open_one: Callable[[Path], Batches],
        settings: StoreSettings | None,
    ) -> None:
        self._names, self._open_one, self._settings = names, open_one, settings
        self._kept = ExitStack()
        self._first = self._kept.enter_context(self._opened(names[0]))
        self.schema: pa.Schema = self._first.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with self._naming(self._names[0]):
            yield from self._rows(self._names[0], self._first)
        for name in self._names[1:]:
            with self._opened(name) as reader:
                missing = set(self.schema.names) ^ set(reader.schema.names)
                if missing:
                    refuse(
                        name,
                        f"its columns differ from those of {public(self._names[0])}: "
                        f"{listed(sorted(missing))}",
                        "give all files the same columns, or narrow the pattern",
                    )
                yield from self._rows(name, reader)

    def _rows(self, name: str, reader: Batches) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in reader:
            try:
                yield batch.select(self.schema.names).cast(self.schema)
            except pa.ArrowInvalid as error:
                refuse(name, f"types differ between files: {error}", "write all with one schema")

    @contextmanager
    def _opened(self, name: str) -> Iterator[Batches]:
        with fetched(name, self._settings) as path, self._naming(name, path):
            yield self._open_one(path)

    @contextmanager
    def _naming(self, name: str, path: Path | None = None) -> Iterator[None]:
        """Errors name the object, not the temporary file that it was fetched to."""
        path = path or getattr(self._first, "_path", None)
        try:
            yield
        except SourceError as error:
            what = error.what.replace(str(path), public(name))
            raise SourceError(what, where=error.where, fix=error.fix) from None
