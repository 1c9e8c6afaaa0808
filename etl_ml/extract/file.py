"""Files: CSV, JSON lines and Parquet, plain or compressed, one or many."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.extract.compressed import compression_of
from etl_ml.extract.source_error import refuse
from etl_ml.lake.backend import Batches
from etl_ml.lake.identity import INTERNAL
from etl_ml.spec.error import listed
from etl_ml.spec.source import FileSource

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def open_files(source: FileSource, base: Path) -> tuple[tuple[str, ...], Batches]:
    """The files that a source names, as absolute paths, and their rows one file after the other.

    Text formats give text columns: casting is validation's work. Every file must have the columns
    of the first, in any order.
    """
    paths = _resolve(source.path, base)
    readers = [_reader(path, source) for path in paths]
    return tuple(map(str, paths)), _Files(paths, readers)


def _resolve(pattern: str, base: Path) -> list[Path]:
    path = (base / Path(pattern).expanduser()).absolute()
    if glob.has_magic(pattern) and not path.exists():
        # Only the pattern is one: a folder above it may be called `[data]`.
        names = glob.glob(str(Path(pattern).expanduser()), root_dir=base, recursive=True)
        found = sorted(p for p in ((base / name).absolute() for name in names) if p.is_file())
        if not found:
            refuse(path, "no file matches", "correct the pattern, or put a file there")
    elif not path.exists():
        there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        seen = f"; {path.parent} holds {listed(there)}" if there else ""
        refuse(path, f"there is no such file{seen}", "correct the path; it starts at defs.yaml")
    elif path.is_dir():
        refuse(path, "this is a folder", f"name its files, for example {pattern.rstrip('/')}/*.csv")
    else:
        found = [path]
    for file in found:
        if file.stat().st_size == 0:
            refuse(file, "the file is empty (0 bytes)", "put rows in it, or point elsewhere")
    return found


def _reader(path: Path, source: FileSource) -> Batches:
    from etl_ml.extract.csv import CsvFile
    from etl_ml.extract.jsonl import JsonLinesFile
    from etl_ml.extract.parquet import ParquetFile

    name = path.with_suffix("") if compression_of(path) else path
    found = source.format or _FORMATS.get(name.suffix.lower())
    kinds: dict[str, Callable[[Path], Batches]] = {
        "csv": CsvFile,
        "jsonl": JsonLinesFile,
        "parquet": ParquetFile,
    }
    if found is None:
        refuse(
            path, "the name does not tell the format", "set source.format: csv, jsonl or parquet"
        )
    reader = kinds[found](path)
    _usable(path, reader.schema.names)
    return reader


def _usable(path: Path, names: Sequence[str]) -> None:
    lowered: dict[str, str] = {}
    for position, name in enumerate(names, start=1):
        if not name.strip():
            problem = f"column {position} of {len(names)} has no name"
        elif name in (*INTERNAL, "_reasons"):
            problem = f"column {name!r} has a name that etl_ml keeps for itself"
        elif name.lower() in lowered:
            case = "" if lowered[name.lower()] == name else ", by case only"
            problem = f"columns {lowered[name.lower()]!r} and {name!r} have one name{case}"
        else:
            lowered[name.lower()] = name
            continue
        refuse(path, problem, "rename the column in the file")


class _Files:
    """The rows of several files under one schema."""

    def __init__(self, paths: Sequence[Path], readers: Sequence[Batches]) -> None:
        import pyarrow as pa

        self._paths, self._readers = paths, readers
        first = readers[0].schema
        for path, reader in zip(paths[1:], readers[1:], strict=True):
            missing = set(first.names) ^ set(reader.schema.names)
            if missing:
                refuse(
                    path,
                    f"its columns differ from those of {paths[0].name}: {listed(sorted(missing))}",
                    "give all files the same columns, or narrow the pattern",
                )
        try:
            self.schema = pa.unify_schemas(
                [reader.schema for reader in readers], promote_options="permissive"
            )
        except pa.ArrowTypeError as error:
            refuse(
                paths[0], f"types differ between files: {error}", "write all files with one schema"
            )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for path, reader in zip(self._paths, self._readers, strict=True):
            for batch in reader:
                if not batch.num_rows:
                    continue
                try:
                    yield batch.select(self.schema.names).cast(self.schema)
                except pa.ArrowInvalid as error:
                    refuse(
                        path, f"types differ between files: {error}", "write all with one schema"
                    )
