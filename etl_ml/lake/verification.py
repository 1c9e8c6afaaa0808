"""Reading everything again, and naming what is not what was committed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from etl_ml.lake.content import comparable
from etl_ml.lake.lake import Lake
from etl_ml.lake.log import Log
from etl_ml.lake.manifest import UnreadableVersion
from etl_ml.lake.version import Version
from etl_ml.spec.error import EtlMlError


@dataclass(frozen=True)
class Damage:
    """Something that is not what was committed, and where it is."""

    what: str
    where: str


@dataclass(frozen=True)
class Verified:
    """What was read again.

    Attributes
    ----------
    files, bytes, rows : that were hashed
    unproven : tables whose hash another release of Polars made: they were read, not compared
    """

    versions: int
    files: int
    bytes: int
    rows: int
    unproven: int
    damage: tuple[Damage, ...]


def verify(
    lake: Lake, pipeline: str, *, told: Callable[[str], None] = lambda line: None
) -> Verified:
    """Hash every file of every version, package and log entry again, and every table's rows.

    Parameters
    ----------
    told : is given the name of each version before it is read
    """
    count = {"versions": 0, "files": 0, "bytes": 0, "rows": 0, "unproven": 0}
    damage: list[Damage] = []
    tables: set[tuple[str, int]] = set()
    for asset in lake.backend.folders(f"{pipeline}/files"):
        for name in lake.versions(pipeline, asset):
            told(f"{pipeline}/{asset} {name}")
            count["versions"] += 1
            try:
                version = lake.open(pipeline, asset, name)
            except EtlMlError as error:
                damage.append(_damage(error))
                continue
            for ref in version.manifest.files:
                count["files"] += 1
                count["bytes"] += ref.bytes
                try:
                    version.read_bytes(ref.path)
                except UnreadableVersion as error:
                    damage.append(_damage(error))
            table = version.manifest.table
            if table and (table.path, table.delta_version) not in tables:
                tables.add((table.path, table.delta_version))
                count["rows"] += table.rows
                try:
                    count["unproven"] += not _rows_are_sound(version)
                except UnreadableVersion as error:
                    damage.append(_damage(error))
    for package in lake.backend.folders(f"{pipeline}/registry/models"):
        told(f"{pipeline}: package {package}")
        found = _package(lake, f"{pipeline}/registry/models/{package}", count)
        damage += found
    try:
        Log(lake, pipeline).entries()
    except UnreadableVersion as error:
        damage.append(_damage(error))
    return Verified(**count, damage=tuple(damage))


def _rows_are_sound(version: Version) -> bool:
    """Whether the rows were compared with their hash; raises where they are not those."""
    assert version.manifest.table is not None
    try:
        found = version.table.content()
    except BaseException as error:  # whatever a damaged file brings about, a panic included
        if isinstance(error, EtlMlError | KeyboardInterrupt | SystemExit):
            raise
        raise version.table.unreadable(error) from None
    committed = version.manifest.table.content
    if comparable(found, committed) and found != committed:
        raise version.table.changed()
    return comparable(found, committed)


def _package(lake: Lake, folder: str, count: dict[str, int]) -> list[Damage]:
    data = lake.backend.get(f"{folder}/manifest.json")
    if data is None:
        return []  # what a killed writer left
    try:
        files = {entry["path"]: entry["sha256"] for entry in json.loads(data)["files"]}
    except (ValueError, KeyError, TypeError) as error:
        return [Damage(f"a package's manifest is damaged: {error}", f"{lake.url}/{folder}")]
    damage = []
    for name, sha256 in files.items():
        found = lake.backend.get(f"{folder}/{name}")
        count["files"] += 1
        count["bytes"] += len(found or b"")
        if found is None or hashlib.sha256(found).hexdigest() != sha256:
            what = "is missing" if found is None else "is not the file that was packed"
            damage.append(
                Damage(
                    f"package {folder.rpartition('/')[2]}: {name} {what}",
                    f"{lake.url}/{folder}/{name}",
                )
            )
    return damage


def _damage(error: EtlMlError) -> Damage:
    return Damage(error.what, error.where or "")
