"""Every version of everything: claimed, written, committed; never changed."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.lake.backend import AlreadyExists, Backend, TooLarge
from etl_ml.lake.documents import dump_json
from etl_ml.lake.growing import write_growing
from etl_ml.lake.manifest import FORMAT, Manifest, UnreadableVersion
from etl_ml.lake.version import MissingVersion, Table, Version
from etl_ml.lake.writer import LATEST, Contents, Writer
from etl_ml.spec.error import EtlMlError, listed

if TYPE_CHECKING:
    from etl_ml.lake.stores import StoreSettings

_VERSION = re.compile(r"[0-9]{10}")
_MANIFEST = re.compile(r"[0-9]{10}/manifest\.json")
_MISTYPED = re.compile(r"(s3|az|gs|file|mongodb(\+srv)?):/?(?!/)")
MARKER = "lake.json"
# Numbers that are tried after the hint before the folder is listed.
_PROBES = 16


def version_name(version: str | int) -> str:
    """The ten digits that name a version: `3`, `"3"` and `"0000000003"` are one."""
    return f"{int(version):010d}"


class Lake:
    """All versions of all assets of all pipelines, over one backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def url(self) -> str:
        return self.backend.url

    def check(self) -> None:
        """One small write, before any work: a lake that cannot take the result says so now.

        Raises
        ------
        Unreachable
            The store does not answer, has no such bucket, or refuses; says which and why.
        """
        self.backend.put(MARKER, dump_json({"format": FORMAT}))

    def pipelines(self) -> list[str]:
        """Names of the pipelines that have written here."""
        return self.backend.folders("")

    def versions(self, pipeline: str, asset: str) -> list[str]:
        """The committed versions, oldest first."""
        prefix = f"{pipeline}/files/{asset}/"
        found = (entry.name.removeprefix(prefix) for entry in self.backend.walk(prefix))
        return sorted(name[:10] for name in found if _MANIFEST.fullmatch(name))

    def latest(self, pipeline: str, asset: str) -> str | None:
        """The newest committed version, or None.

        Three requests, however many versions there are: the hint that the last writer left, the
        manifest that proves it, and the number after it, which nobody has claimed.
        """
        newest = self._newest(f"{pipeline}/files/{asset}")
        return newest[0] if newest else None

    def _newest(self, prefix: str) -> tuple[str, bytes] | None:
        """The newest committed version and its manifest."""
        hinted = self._hinted(prefix)
        if hinted is None:
            return self._listed(prefix)
        number, found = int(hinted[0]), hinted
        for following in range(number + 1, number + 1 + _PROBES):
            version = version_name(following)
            if self.backend.get(f"{prefix}/{version}/claim.json") is None:
                return found
            manifest = self.backend.get(f"{prefix}/{version}/manifest.json")
            if manifest is not None:
                found = version, manifest
        return self._listed(prefix)

    def _hinted(self, prefix: str) -> tuple[str, bytes] | None:
        """The version that the hint names, if it is one: a hint may be old, or anything."""
        try:
            hint = (self.backend.get(f"{prefix}/{LATEST}", most=10) or b"").decode("latin-1")
        except TooLarge:
            return None
        if not _VERSION.fullmatch(hint):
            return None
        manifest = self.backend.get(f"{prefix}/{hint}/manifest.json")
        return (hint, manifest) if manifest is not None else None

    def _listed(self, prefix: str) -> tuple[str, bytes] | None:
        for version in reversed(self._claimed(prefix)):
            manifest = self.backend.get(f"{prefix}/{version}/manifest.json")
            if manifest is not None:
                return version, manifest
        return None

    def _claimed(self, prefix: str) -> list[str]:
        return [name for name in self.backend.folders(prefix) if _VERSION.fullmatch(name)]

    def open(self, pipeline: str, asset: str, version: str | int | None = None) -> Version:
        """A committed version; the latest by default.

        Raises
        ------
        MissingVersion
            There is none, or not that one.
        """
        prefix, name, data = f"{pipeline}/files/{asset}", None, None
        if version is None:
            name, data = self._newest(prefix) or (None, None)
        else:
            name = str(version)
            if name.isascii() and name.isdigit():
                name = version_name(name)
            if _VERSION.fullmatch(name):
                data = self.backend.get(f"{prefix}/{name}/manifest.json")
        if data is None:
            known = self.versions(pipeline, asset)
            seen = f"committed are {listed(reversed(known))}" if known else "nothing is committed"
            raise MissingVersion(
                f"{pipeline}/{asset} has no version {name or 'yet'}.",
                seen=seen,
                where=self.url,
                fix=f"materialize {pipeline}/{asset}" if not known else "name one of these",
            )
        return Version(
            self.backend, Manifest.load(data, f"{self.url}/{prefix}/{name}/manifest.json")
        )

    def table(self, pipeline: str, asset: str, version: str | int | None = None) -> Table:
        """The rows of a version; the latest by default."""
        return self.open(pipeline, asset, version).table

    def read(self, pipeline: str, asset: str, file: str, version: str | int | None = None) -> Any:
        """A file of a version: parsed JSON, an array for .npy, text, else bytes."""
        return self.open(pipeline, asset, version).read(file)

    def claim(
        self,
        pipeline: str,
        asset: str,
        *,
        run_id: str = "",
        code_version: str = "",
        upstream: Mapping[str, str] | None = None,
    ) -> Writer:
        """Take the next free version number: no two writers ever share a folder."""
        prefix = f"{pipeline}/files/{asset}"
        hinted = self._hinted(prefix)
        number, probes = (int(hinted[0]) + 1, _PROBES) if hinted else (self._free(prefix), 0)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        # Told apart from another's of the same moment, should the answer to it be lost.
        claim = dump_json({"run_id": run_id, "created_at": now, "writer": secrets.token_hex(8)})
        while True:
            draft = Manifest(
                pipeline=pipeline,
                asset=asset,
                version=version_name(number),
                run_id=run_id,
                created_at=now,
                code_version=code_version,
                upstream=dict(upstream or {}),
                table=None,
                files=(),
            )
            try:
                self.backend.create(f"{draft.folder}/claim.json", claim)
            except AlreadyExists:
                probes -= 1
                number = self._free(prefix) if probes == 0 else number + 1
                continue
            return Writer(self.backend, draft, _table_version(prefix, hinted))

    def _free(self, prefix: str) -> int:
        taken = self._claimed(prefix)
        return int(taken[-1]) + 1 if taken else 1

    def write(self, pipeline: str, asset: str, contents: Contents, **lineage: Any) -> Version:
        """Claim, write and commit a version; `lineage` is `claim`'s."""
        if contents.grow is not None:
            return write_growing(self, pipeline, asset, contents.grow, lineage)
        writer = self.claim(pipeline, asset, **lineage)
        if contents.table is not None:
            writer.table(contents.table)
        for name, content in contents.files.items():
            writer.file(name, content)
        return writer.commit()


def _table_version(prefix: str, newest: tuple[str, bytes] | None) -> int | None:
    """The table's version in an asset's newest one; None where it has none, or is damaged."""
    if newest is None:
        return None
    try:
        table = Manifest.load(newest[1], f"{prefix}/{newest[0]}/manifest.json").table
    except UnreadableVersion:
        return None
    return table.delta_version if table else None


def open_lake(
    url: str | os.PathLike[str] | None = None, settings: StoreSettings | None = None
) -> Lake:
    """Open a lake.

    Parameters
    ----------
    url : a path, `s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix` or
        `mongodb://host/database`; by default `ETL_ML_LAKE`, else `.etl_ml/lake` beside the nearest
        pyproject.toml
    settings : of the object store; what is not in them comes from the provider's own chain

    Raises
    ------
    EtlMlError
        The URL's scheme is not one that this version can open, or it names no bucket or database.
    """
    location = os.fspath(url) if url is not None else default_url()
    scheme, separator, rest = location.partition("://")
    if scheme in ("mongodb", "mongodb+srv") and separator:
        from etl_ml.lake.mongodb import MongoBackend

        return Lake(MongoBackend.open(location))
    from etl_ml.lake.object_store import ObjectStoreBackend

    if scheme in ("s3", "az", "gs") and separator:
        return Lake(ObjectStoreBackend.remote(location, settings))
    mistyped = _MISTYPED.match(location)
    if (separator and scheme != "file") or mistyped:
        raise EtlMlError(
            f"a lake at {mistyped[0] if mistyped else f'{scheme}://'} cannot be opened.",
            where="ETL_ML_LAKE",
            fix="use a path, s3://bucket/prefix, az://container/prefix, gs://bucket/prefix or "
            "mongodb://host/database",
        )
    return Lake(ObjectStoreBackend.local(Path(rest if separator else location)))


def default_url(start: Path | None = None) -> str:
    """`ETL_ML_LAKE`, else `.etl_ml/lake` beside the nearest pyproject.toml at or above `start`."""
    if url := os.environ.get("ETL_ML_LAKE"):
        return url
    here = (start or Path.cwd()).resolve()
    root = next((p for p in (here, *here.parents) if (p / "pyproject.toml").is_file()), here)
    return str(root / ".etl_ml" / "lake")
