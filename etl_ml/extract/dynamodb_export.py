"""A DynamoDB table's export to S3: `data/*.json.gz` beside `manifest-summary.json`."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.documents import Documents
from etl_ml.extract.dynamodb_items import decoder, unpacked
from etl_ml.extract.pending import Held, marked
from etl_ml.extract.remote import fetched, list_objects
from etl_ml.extract.source_error import SourceError
from etl_ml.lake.stores import StoreSettings
from etl_ml.spec.contract import Contract
from etl_ml.spec.source import DynamoSource

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

_ROWS, _BYTES = 10_000, 32 << 20
_SUMMARY = "manifest-summary.json"


class Export:
    """One file after the other, each line one item; as many as the manifest says.

    Raises
    ------
    SourceError
        The store refuses, or the folder holds no whole export in DynamoDB JSON.
    """

    def __init__(
        self, source: DynamoSource, contract: Contract, settings: StoreSettings | None
    ) -> None:
        assert source.export is not None
        self._documents = Documents(contract)
        self.schema = self._documents.schema
        self.origin: tuple[str, ...] = (source.address,)
        settings = settings or StoreSettings()
        self._settings = replace(settings, region=source.region or settings.region)
        self._root = root = source.export.rstrip("/") + "/"
        with _of_export():
            found = list_objects(f"{root}**", self._settings)
        names = [url for url, _, _ in found]
        self.total: int | None = self._summary(names)
        self._mark = marked(*found)
        self._files = [
            name
            for name in names
            if name.removeprefix(root).startswith("data/") and name.endswith((".json", ".json.gz"))
        ]
        if not self._files and self.total:
            self._refuse("there is no data/*.json.gz", "copy the whole export")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        decode, rows, size, count = decoder(), [], 0, 0
        for name in self._files:
            for number, line in self._lines(name):
                try:
                    rows.append(decode(unpacked(json.loads(line)["Item"])))
                except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
                    # The error itself would show values.
                    self._refuse(
                        f"line {number} of {name.rpartition('/')[2]} is not an item",
                        "copy the export again, or export again in DynamoDB JSON",
                    )
                count, size = count + 1, size + len(line)
                if len(rows) >= _ROWS or size >= _BYTES:
                    yield self._documents.batch(rows)
                    rows, size = [], 0
        if rows:
            yield self._documents.batch(rows)
        if count != self.total:
            self._refuse(
                f"it holds {count} items, but its manifest says {self.total}",
                "copy the export again: a file is missing, cut short or of another export",
            )

    def held(self) -> Held:
        """The number of items, and which export it is."""
        return Held(self._mark, self.total)

    def clock(self) -> datetime | None:
        return None

    def _lines(self, name: str) -> Iterator[tuple[int, bytes]]:
        with _of_export(), fetched(name, self._settings) as path:
            try:
                with gzip.open(path) if name.endswith(".gz") else path.open("rb") as stream:
                    for number, line in enumerate(stream, start=1):
                        if line.strip():
                            yield number, line
            except (EOFError, gzip.BadGzipFile, zlib.error):
                file = name.rpartition("/")[2]
                self._refuse(f"{file} is damaged or cut short", "copy the export again")

    def _summary(self, names: list[str]) -> int:
        """The number of items; a manifest is the last that an export writes."""
        found = [name for name in names if name.endswith(f"/{_SUMMARY}")]
        if len(found) > 1:
            self._refuse(
                f"there are {len(found)} exports in it", "name the folder of one, AWSDynamoDB/…"
            )
        if found != [f"{self._root}{_SUMMARY}"]:
            self._refuse(
                f"there is no {_SUMMARY} in it",
                f"name the folder that holds data/ and {_SUMMARY}; wait until the export has ended",
            )
        with _of_export(), fetched(found[0], self._settings) as path:
            told = _object(path)
        kind, form = told.get("exportType", "FULL_EXPORT"), told.get("outputFormat")
        if kind != "FULL_EXPORT" or form not in (None, "DYNAMODB_JSON"):
            self._refuse(
                "it is not a full export in DynamoDB JSON",
                "export again with ExportFormat DYNAMODB_JSON and ExportType FULL_EXPORT",
            )
        count = told.get("itemCount")
        if not isinstance(count, int):
            self._refuse(f"{_SUMMARY} tells no itemCount", "copy the export again")
        return count

    def _refuse(self, what: str, fix: str) -> NoReturn:
        raise SourceError(f"{self.origin[0]}: {what}.", where="source.export", fix=fix) from None


def _object(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


@contextmanager
def _of_export() -> Iterator[None]:
    """A refusal by the store names the key that the user has written."""
    try:
        yield
    except SourceError as error:
        error.where = "source.export"
        raise
