"""Files: CSV, JSON lines and Parquet, plain or compressed, one or many, here or elsewhere."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.extract.compressed import compression_of
from etl_ml.extract.source_error import refuse
from etl_ml.lake.backend import Batches
from etl_ml.lake.identity import INTERNAL, ROW
from etl_ml.lake.stores import StoreSettings, is_remote
from etl_ml.spec.error import listed
from etl_ml.spec.source import FileSource, public

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True)
class FoundFile:
    """A file that a source names: absolute path or URL, bytes, and what changes when it does."""

    name: str
    size: int
    version: str


def list_files(
    source: FileSource, base: Path, settings: StoreSettings | None = None
) -> tuple[FoundFile, ...]:
    """The files that a source names, sorted by name.

    Parameters
    ----------
    base : the folder that relative paths start from
    settings : of an object store; by default the provider's own chain

    Raises
    ------
    SourceError
        There is no file, or they are of several formats.
    """
    if is_remote(source.path):
        from etl_ml.extract.remote import list_objects

        found = [FoundFile(*entry) for entry in list_objects(source.path, settings)]
        folder = source.path
    else:
        paths = _resolve(source.path, base)
        stats = [(path, path.stat()) for path in paths]
        found = [FoundFile(str(p), s.st_size, str(s.st_mtime_ns)) for p, s in stats]
        folder = str(base / source.path)
    several = len(found) != 1 or found[0].name.rstrip("/") != folder.rstrip("/")
    if several and not glob.has_magic(source.path):
        found = _of_one_format(found, source, folder)
    if not found:
        refuse(folder, "no file matches", "correct the pattern, or put a file there")
    for file in found:
        if file.size == 0:
            refuse(file.name, "the file is empty (0 bytes)", "put rows in it, or point elsewhere")
    return tuple(found)


def open_files(
    source: FileSource,
    base: Path,
    *,
    settings: StoreSettings | None = None,
    found: Sequence[FoundFile] | None = None,
    identified: bool = False,
) -> tuple[tuple[str, ...], Batches]:
    """The files that a source names, by absolute path or URL, and their rows one after the other.

    Text formats give text columns: casting is validation's work. Every file must have the columns
    of the first, in any order.

    Parameters
    ----------
    found : those of `list_files` that are to be read; all by default
    identified : whether they may say which rows of the lake theirs are, in `_etl_ml_row`
    """
    names = tuple(f.name for f in (found or list_files(source, base, settings)))
    if is_remote(source.path):
        from etl_ml.extract.remote_files import RemoteFiles

        def open_one(path: Path) -> Batches:
            return _reader(path, source, identified)

        return tuple(map(public, names)), RemoteFiles(names, open_one, settings)
    paths = [Path(name) for name in names]
    return names, _Files(paths, [_reader(path, source, identified) for path in paths])


def _of_one_format(found: list[FoundFile], source: FileSource, folder: str) -> list[FoundFile]:
    """A folder's data files: others that lie beside them are left out."""
    if source.format is not None:
        return found
    kinds = {file.name: _format_of(file.name) for file in found}
    named = sorted({kind for kind in kinds.values() if kind})
    if len(named) > 1:
        examples = [next(n for n, kind in kinds.items() if kind == one) for one in named]
        refuse(
            folder,
            f"the folder has files of several formats: {listed(Path(n).name for n in examples)}",
            "name those to read by a pattern, e.g. *.csv",
        )
    return [file for file in found if kinds[file.name]]


def _format_of(name: str) -> str | None:
    path = Path(public(name) if is_remote(name) else name)
    plain = path.with_suffix("") if compression_of(path) else path
    return _FORMATS.get(plain.suffix.lower())


def _resolve(pattern: str, base: Path) -> list[Path]:
    path = (base / Path(pattern).expanduser()).absolute()
    if glob.has_magic(pattern) and not path.exists():
        # Only the pattern is one: a folder above it may be called `[data]`.
        names = glob.glob(str(Path(pattern).expanduser()), root_dir=base, recursive=True)
        return sorted(p for p in ((base / name).absolute() for name in names) if p.is_file())
    if not path.exists():
        there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        seen = f"; {path.parent} holds {listed(there)}" if there else ""
        refuse(path, f"there is no such file{seen}", "correct the path; it starts at defs.yaml")
    if path.is_dir():
        hidden = (".", "_")
        return sorted(p for p in path.iterdir() if p.is_file() and p.name[:1] not in hidden)
    return [path]


def _reader(path: Path, source: FileSource, identified: bool) -> Batches:
    from etl_ml.extract.csv import CsvFile
    from etl_ml.extract.jsonl import JsonLinesFile
    from etl_ml.extract.parquet import ParquetFile

    found = source.format or _format_of(str(path))
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
    _usable(path, [name for name in reader.schema.names if not (identified and name == ROW)])
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
