"""A pipeline's whole lake, carried to another one.

Between folders and object stores every object is copied as it is, the tables' included. To and from
MongoDB the tables are written anew, version by version, and their content is compared. Either way
data comes before what commits it: a copy that is interrupted has whole versions only, and running
it again goes on.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from etl_ml.lake.backend import Entry
from etl_ml.lake.content import comparable, counted
from etl_ml.lake.lake import Lake
from etl_ml.lake.manifest import TableRef, UnreadableVersion
from etl_ml.lake.object_store import ObjectStoreBackend
from etl_ml.lake.parquet_file import room
from etl_ml.lake.pieces import Data, size_of
from etl_ml.lake.version import Table
from etl_ml.lake.writer import LATEST
from etl_ml.spec.error import EtlMlError, listed

_LARGE, _LARGEST = 64 << 20, 1 << 60
_MANIFEST = re.compile(r"[^/]+/files/[^/]+/[0-9]{10}/manifest\.json")
_STAMP = ("run_id", "version", "created_at", "code_version", "cursor")


class NotEmpty(EtlMlError):
    """The lake that was to be copied to has something of its own."""


@dataclass(frozen=True)
class Copied:
    """How many objects, bytes and versions of tables were written, and what was there already."""

    objects: int
    bytes: int
    tables: int
    there: int


def copy(
    source: Lake,
    target: Lake,
    pipeline: str,
    *,
    told: Callable[[str], None] = lambda line: None,
) -> Copied:
    """Copy all versions, packages, the log and the run records of a pipeline.

    Version numbers, hashes and lineage stay as they are.

    Raises
    ------
    NotEmpty
        The target has versions of this pipeline that the source has not; nothing was copied.
    UnreadableVersion
        Something is damaged, or did not arrive as it was.
    """
    target.check()
    here = {entry.name: entry for entry in source.backend.walk(f"{pipeline}/")}
    if not here:
        raise EtlMlError(
            f"there is no pipeline {pipeline!r} to copy.",
            seen=f"its pipelines are {listed(source.pipelines()) or 'none'}",
            where=source.url,
            fix="name one of them",
        )
    there = {entry.name: entry for entry in target.backend.walk(f"{pipeline}/")}
    own = [name for name in there if name.endswith("/manifest.json") and name not in here]
    if own:
        raise NotEmpty(
            f"{target.url} has versions of {pipeline} that {source.url} has not.",
            seen=listed(sorted(own), 3),
            fix="copy to an empty lake, or the other way round",
        )
    # What is committed now; then everything is listed again, so that all of it is there.
    commits = {name for name in here if _rank(name) == _COMMIT}
    as_it_is = all(isinstance(lake.backend, ObjectStoreBackend) for lake in (source, target))
    done = _Progress(source, target, there, told)
    refs = {} if as_it_is else done.tables(pipeline)
    now = {entry.name: entry for entry in source.backend.walk(f"{pipeline}/")}
    for entry in sorted(now.values(), key=lambda e: (_rank(e.name), e.name)):
        if _rank(entry.name) == _COMMIT and entry.name not in commits:
            continue
        if not as_it_is and entry.name.startswith(f"{pipeline}/tables/"):
            continue
        done.object(entry, refs)
    return Copied(done.objects, done.bytes, done.written_tables, done.was_there)


_DATA, _LOG, _CLAIM, _COMMIT, _RECORD, _HINT = range(6)


def _rank(name: str) -> int:
    """What comes after what: data, then what commits it, then what points to it."""
    parts = name.split("/")
    if parts[-1] == LATEST:
        return _HINT
    if parts[1:2] == ["runs"] or parts[1:3] == ["registry", "log"]:
        return _RECORD
    if parts[-1] == "manifest.json":
        return _COMMIT
    if parts[-1] == "claim.json":
        return _CLAIM
    return _LOG if "_delta_log" in parts else _DATA


class _Progress:
    """What has been copied so far."""

    def __init__(
        self, source: Lake, target: Lake, there: dict[str, Entry], told: Callable[[str], None]
    ) -> None:
        self._source, self._target, self._there, self._told = source, target, there, told
        self.objects = self.bytes = self.written_tables = self.was_there = 0

    def object(self, entry: Entry, refs: dict[str, TableRef]) -> None:
        name = entry.name
        known = self._there.get(name)
        # Nothing but hints and Delta's pointer to its checkpoint is ever changed.
        changes = name.endswith((f"/{LATEST}", "/_last_checkpoint"))
        if known is not None and known.bytes == entry.bytes and not changes and name not in refs:
            self.was_there += 1
            return
        self._told(name)
        with self._found(entry) as data:
            is_commit = _MANIFEST.fullmatch(name) is not None
            copied = self._manifest(name, refs.get(name)) if is_commit else data
            self._target.backend.put(name, copied)
            self.objects += 1
            self.bytes += size_of(copied)

    @contextmanager
    def _found(self, entry: Entry) -> Iterator[Data]:
        """An object of the source; a large one in a temporary file."""
        stored = self._source.backend.stream(entry.name, _LARGEST)
        if stored is None:
            raise UnreadableVersion(
                f"{entry.name} has gone while it was copied.",
                where=self._source.url,
                fix="run it again, while nobody vacuums this lake",
            )
        if stored.bytes <= _LARGE:
            yield b"".join(stored.pieces)
            return
        with tempfile.TemporaryDirectory(prefix="etl_ml_") as folder, room(Path(folder)):
            path = Path(folder, "object")
            with path.open("wb") as sink:
                sink.writelines(stored.pieces)
            yield path

    def _manifest(self, name: str, table: TableRef | None) -> bytes:
        """A version's manifest with its table as it is in the target."""
        pipeline, _, asset, version, _ = name.split("/")
        manifest = self._source.open(pipeline, asset, version).manifest
        if table is None and manifest.table is not None:
            ref = manifest.table
            table = replace(ref, seal=self._target.backend.seal(ref.path, ref.delta_version))
        return replace(manifest, table=table).dump()

    def tables(self, pipeline: str) -> dict[str, TableRef]:
        """Write every table's versions anew; gives the new references by manifest."""
        found: dict[str, TableRef] = {}
        written: dict[TableRef, TableRef] = {}
        for name, ref in self._refs(pipeline):
            if ref not in written:
                self._told(f"{ref.path}, version {ref.delta_version}")
                written[ref] = self._table(name, ref)
            found[name] = written[ref]
        return found

    def _refs(self, pipeline: str) -> Iterator[tuple[str, TableRef]]:
        for asset in self._source.backend.folders(f"{pipeline}/files"):
            for version in self._source.versions(pipeline, asset):
                manifest = self._source.open(pipeline, asset, version).manifest
                if manifest.table is not None:
                    yield f"{manifest.folder}/manifest.json", manifest.table

    def _table(self, name: str, ref: TableRef) -> TableRef:
        pipeline, _, asset, version, _ = name.split("/")
        if name in self._there:
            known = self._target.open(pipeline, asset, version).manifest.table
            if known is not None:
                return known
        backend = self._target.backend
        rows = Table(self._source.backend, ref, f"{asset} {version}")
        stamp = {key: value for key, value in rows.stamp.items() if key in _STAMP}
        with counted(rows.scan()) as given:
            number, count, seal = backend.write_table(ref.path, given, stamp)
        self.written_tables += 1
        made = TableRef(ref.path, number, count, given.content, seal)
        arrived = Table(backend, made, f"{asset} {version}").content()
        sound = arrived == given.content
        if comparable(ref.content, arrived):
            sound = arrived == ref.content
        if not sound:
            raise UnreadableVersion(
                f"{asset} {version}: its rows did not arrive as they were.",
                where=f"{self._target.url}/{ref.path}",
                fix="verify the lake that was copied from, then copy again",
            )
        return made
