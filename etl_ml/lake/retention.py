"""What a lake may forget: old versions, what killed writers left, and the rows of both.

A version stays while it is among the newest of its asset, or younger than asked, or needed: by a
version that stays, by a package that stays, or by a run that wrote or read something in the last
two days. Packages stay while the log's newest entries name them. Of a version that goes, the
manifest goes first, so that nobody reads the rest.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from etl_ml.lake.backend import Entry
from etl_ml.lake.lake import MARKER, Lake, version_name
from etl_ml.lake.log import Log
from etl_ml.lake.manifest import Manifest, UnreadableVersion
from etl_ml.lake.writer import LATEST

GRACE = timedelta(days=2)
"""How long what has no manifest may be somebody's work, and a run may go on without a sign."""
_READERS = 16
_FILE = re.compile(r"[^/]+/files/(?P<asset>[^/]+)/(?P<version>[0-9]{10})/(?P<file>.+)")
_PACKAGE = re.compile(r"[^/]+/registry/models/(?P<version>[0-9]{10})/(?P<file>.+)")
_RUN = re.compile(r"[^/]+/runs/(?P<run>[^/]+)/.+")

Place = tuple[str, str]
"""An asset and a version of it."""


@dataclass(frozen=True)
class Removed:
    """What was removed, or would be: names relative to the lake, and their size in bytes.

    Attributes
    ----------
    versions, leftovers, packages : of committed versions, of killed writers, of the registry
    rows : by table, how many files (in MongoDB: parts) with rows that no version needs
    unfinished : objects that a killed writer had begun
    """

    versions: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    unfinished: int = 0
    bytes: int = 0

    @property
    def is_nothing(self) -> bool:
        return not self.bytes


def vacuum(
    lake: Lake,
    pipeline: str,
    *,
    keep: int = 30,
    older_than: timedelta = timedelta(days=30),
    dry_run: bool = False,
    worth: int = 1,
) -> Removed:
    """Remove what a pipeline's lake needs no more.

    Parameters
    ----------
    keep : versions of each asset, and entries of the log, that stay in any case; at least 1
    older_than : what is younger stays, by the store's clock
    dry_run : say it and remove nothing
    worth : versions of one asset that have to be removable for any to be removed

    Raises
    ------
    UnreadableVersion
        A manifest is damaged, so that nobody knows what its version needs; nothing was removed.
    """
    lake.check()
    now = _now(lake)
    inventory = _Inventory.of(lake, pipeline)
    old = {
        asset: [v for v in versions[: -max(keep, 1)] if inventory.age(asset, v, now) > older_than]
        for asset, versions in inventory.committed.items()
    }
    if worth > 1 and max(map(len, old.values()), default=0) < worth:
        return Removed()
    log = Log(lake, pipeline).entries()
    champions = {entry.version for entry in log[-max(keep, 1) :]}
    packages = {
        version: entries
        for version, entries in inventory.packages.items()
        if version not in champions and now - _newest(entries) > max(older_than, GRACE)
    }
    staying = {
        (asset, version)
        for asset, versions in inventory.committed.items()
        for version in versions
        if version not in old[asset]
    }
    staying |= {("trained_model", v) for v in inventory.packages if v not in packages}
    staying |= _of_running(lake, inventory, now)
    needed = _closure(lake, pipeline, staying & inventory.places)
    versions = [
        (asset, version)
        for asset, found in old.items()
        for version in found
        if (asset, version) not in needed
    ]
    leftovers = [
        place
        for place, entries in inventory.leftovers.items()
        if now - _newest(entries) > GRACE and inventory.is_behind(place)
    ]
    runs = {
        run: entries
        for run, entries in inventory.runs.items()
        if now - _newest(entries) > max(older_than, GRACE)
    }
    kept_rows: dict[str, set[int]] = defaultdict(set)
    for manifest in needed.values():
        if manifest.table:
            kept_rows[manifest.table.path].add(manifest.table.delta_version)
    unneeded = {}
    for path, of_table in kept_rows.items():
        if head := lake.backend.open_table(path):
            of_table.add(head.version)  # a killed writer's, perhaps: the next one takes it over
            if not dry_run:
                head.checkpoint()
        if entries := list(lake.backend.unneeded(path, of_table, now - GRACE)):
            unneeded[path] = entries
    going = [
        *(entry for place in versions for entry in inventory.entries[place]),
        *(entry for place in leftovers for entry in inventory.leftovers[place]),
        *(entry for entries in packages.values() for entry in entries),
        *(entry for entries in runs.values() for entry in entries),
    ]
    if not dry_run:
        inventory.renew_hints(lake, pipeline)
        # A manifest first: what is half removed is not there.
        for entry in sorted(going, key=lambda e: not e.name.endswith("/manifest.json")):
            lake.backend.delete(entry.name)
        for path, entries in unneeded.items():
            lake.backend.discard(path, entries)
    swept = lake.backend.sweep(f"{pipeline}/", now - GRACE, dry_run=dry_run)
    return Removed(
        versions=tuple(f"{asset} {version}" for asset, version in versions),
        leftovers=tuple(f"{asset} {version}" for asset, version in leftovers),
        packages=tuple(sorted(packages)),
        runs=tuple(sorted(runs)),
        rows={path: len(entries) for path, entries in unneeded.items()},
        unfinished=swept.objects,
        bytes=swept.bytes
        + sum(e.bytes for e in going)
        + sum(e.bytes for es in unneeded.values() for e in es),
    )


@dataclass
class _Inventory:
    """All that a pipeline has stored beside its tables, from one listing."""

    entries: dict[Place, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[str, list[str]] = field(default_factory=dict)
    leftovers: dict[Place, list[Entry]] = field(default_factory=dict)
    packages: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    runs: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, lake: Lake, pipeline: str) -> _Inventory:
        found = cls()
        for entry in lake.backend.walk(f"{pipeline}/files/"):
            if match := _FILE.fullmatch(entry.name):
                found.entries[match["asset"], match["version"]].append(entry)
        for entry in lake.backend.walk(f"{pipeline}/registry/models/"):
            if match := _PACKAGE.fullmatch(entry.name):
                found.packages[match["version"]].append(entry)
        for entry in lake.backend.walk(f"{pipeline}/runs/"):
            if match := _RUN.fullmatch(entry.name):
                found.runs[match["run"]].append(entry)
        for (asset, version), entries in sorted(found.entries.items()):
            if any(entry.name.endswith(f"/{version}/manifest.json") for entry in entries):
                found.committed.setdefault(asset, []).append(version)
            else:
                found.leftovers[asset, version] = entries
        return found

    @property
    def places(self) -> set[Place]:
        return {(asset, v) for asset, versions in self.committed.items() for v in versions}

    def age(self, asset: str, version: str, now: datetime) -> timedelta:
        return now - _newest(self.entries[asset, version])

    def is_behind(self, place: Place) -> bool:
        """Whether the asset's newest version came later: above it, numbers have to follow."""
        asset, version = place
        return version < self.committed.get(asset, [""])[-1]

    def renew_hints(self, lake: Lake, pipeline: str) -> None:
        """Numbers below the newest version will be gone: no hint may be among them."""
        for asset, versions in self.committed.items():
            lake.backend.put(f"{pipeline}/files/{asset}/{LATEST}", versions[-1].encode())


def _now(lake: Lake) -> datetime:
    """The store's clock, by which entries are dated: `check` has just written there."""
    found = [entry for entry in lake.backend.walk(MARKER) if entry.name == MARKER]
    return found[0].modified if found else datetime.now(UTC)


def _newest(entries: Sequence[Entry]) -> datetime:
    return max(entry.modified for entry in entries)


def _of_running(lake: Lake, inventory: _Inventory, now: datetime) -> set[Place]:
    """What runs read or wrote that gave a sign within the grace."""
    records = [
        entry.name
        for entries in inventory.runs.values()
        if now - _newest(entries) <= GRACE
        for entry in entries
    ]
    found = set()
    for name, data in zip(records, _all(lake.backend.get, records), strict=True):
        if data:
            asset = name.rpartition("/")[2].removesuffix(".json")
            found.add((asset, version_name(json.loads(data)["version"])))
    return found


def _closure(lake: Lake, pipeline: str, places: Iterable[Place]) -> dict[Place, Manifest]:
    """These versions and all that they were made from, with their manifests."""
    found: dict[Place, Manifest] = {}
    asked = set(places)
    while asked:
        names = {p: f"{pipeline}/files/{p[0]}/{p[1]}/manifest.json" for p in sorted(asked)}
        read = _all(lake.backend.get, names.values())
        for (place, name), data in zip(names.items(), read, strict=True):
            if data is not None:  # else it went in an earlier vacuum
                found[place] = Manifest.load(data, f"{lake.url}/{name}")
        above = {up for place in names if place in found for up in found[place].upstream.items()}
        asked = {(asset, str(v)) for asset, v in above} - found.keys() - names.keys()
    return found


def _all(read: Callable[[str], bytes | None], names: Iterable[str]) -> list[bytes | None]:
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(read, names))


__all__ = ["GRACE", "Removed", "UnreadableVersion", "vacuum"]
