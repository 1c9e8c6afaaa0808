"""How much is new in files: by their names, sizes and versions, and the rows a byte had before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.extract.file import list_files
from etl_ml.extract.file_state import new_files
from etl_ml.extract.pending import Held, Pending, marked
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import FileSource

if TYPE_CHECKING:
    from etl_ml.lake.stores import StoreSettings
    from etl_ml.lake.version import Version


def new_files_of(
    pipeline: Pipeline,
    source: FileSource,
    raw: Version | None,
    noted: Mapping[str, Any],
    base: Path,
    bound: int,
    settings: StoreSettings | None,
) -> Pending:
    """Files that an incremental read has not seen, their rows estimated.

    Raises
    ------
    SourceError
        No file is there, the store refuses, or one has changed and has no key.
    """
    found = list_files(source, base, settings)
    new = new_files(pipeline, found, raw.table.cursor if raw is not None else None)
    if not new:
        return Pending(0, "no file is new")
    mark = marked(*((file.name, file.size, file.version) for file in new))
    size = sum(file.size for file in new)
    files = f"{len(new):,} new {'file' if len(new) == 1 else 'files'}"
    if raw is None or not noted.get("bytes") or not raw.table.rows:
        return Pending(bound, f"{files}, {size:,} bytes", mark)  # how many rows nobody knows yet
    rows = max(round(size * raw.table.rows / noted["bytes"]), 1)
    return Pending(rows, f"{files}, about {rows:,} rows", mark)


def held_files(source: FileSource, base: Path, settings: StoreSettings | None) -> Held:
    """What files that are read whole hold.

    Raises
    ------
    SourceError
    """
    found = list_files(source, base, settings)
    mark = marked(*((file.name, file.size, file.version) for file in found))
    return Held(mark, size=sum(file.size for file in found))
