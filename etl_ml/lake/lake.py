"""Every version of everything: claimed, written, committed; never changed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl_ml.lake.backend import AlreadyExists, Backend
from etl_ml.lake.documents import dump_json
from etl_ml.lake.growing import write_growing
from etl_ml.lake.manifest import Manifest
from etl_ml.lake.version import MissingVersion, Table, Version
from etl_ml.lake.writer import Contents, Writer
from etl_ml.spec.error import EtlMlError, listed

_VERSION = re.compile(r"[0-9]{10}")


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

    def pipelines(self) -> list[str]:
        """Names of the pipelines that have written here."""
        return self.backend.folders("")

    def versions(self, pipeline: str, asset: str) -> list[str]:
        """The committed versions, oldest first."""
        prefix = f"{pipeline}/files/{asset}"
        claimed = self._claimed(prefix)
        return [v for v in claimed if self.backend.get(f"{prefix}/{v}/manifest.json") is not None]

    def _claimed(self, prefix: str) -> list[str]:
        return [name for name in self.backend.folders(prefix) if _VERSION.fullmatch(name)]

    def latest(self, pipeline: str, asset: str) -> str | None:
        """The newest committed version, or None."""
        prefix = f"{pipeline}/files/{asset}"
        for version in reversed(self._claimed(prefix)):
            if self.backend.get(f"{prefix}/{version}/manifest.json") is not None:
                return version
        return None

    def open(self, pipeline: str, asset: str, version: str | int | None = None) -> Version:
        """A committed version; the latest by default.

        Raises
        ------
        MissingVersion
            There is none, or not that one.
        """
        name = self.latest(pipeline, asset) if version is None else str(version)
        if version is not None and name and name.isascii() and name.isdigit():
            name = version_name(name)
        path = f"{pipeline}/files/{asset}/{name}/manifest.json"
        data = self.backend.get(path) if name and _VERSION.fullmatch(name) else None
        if data is None:
            known = self.versions(pipeline, asset)
            seen = f"committed are {listed(reversed(known))}" if known else "nothing is committed"
            raise MissingVersion(
                f"{pipeline}/{asset} has no version {name or 'yet'}.",
                seen=seen,
                where=self.url,
                fix=f"materialize {pipeline}/{asset}" if not known else "name one of these",
            )
        return Version(self.backend, Manifest.load(data, f"{self.url}/{path}"))

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
        taken = self._claimed(f"{pipeline}/files/{asset}")
        number = int(taken[-1]) + 1 if taken else 1
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
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
                claim = dump_json({"run_id": run_id, "created_at": now})
                self.backend.create(f"{draft.folder}/claim.json", claim)
            except AlreadyExists:
                number += 1
                continue
            return Writer(self.backend, draft)

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


def open_lake(url: str | os.PathLike[str] | None = None) -> Lake:
    """Open a lake.

    Parameters
    ----------
    url : a path; by default `ETL_ML_LAKE`, else `.etl_ml/lake` beside the nearest pyproject.toml

    Raises
    ------
    EtlMlError
        The URL's scheme is not one that this version can open.
    """
    from etl_ml.lake.object_store import ObjectStoreBackend

    location = os.fspath(url) if url is not None else default_url()
    scheme, separator, rest = location.partition("://")
    if separator and scheme != "file":
        raise EtlMlError(
            f"a lake at {scheme}:// cannot be opened.",
            where="ETL_ML_LAKE",
            fix="use a path, or file://",
        )
    return Lake(ObjectStoreBackend.local(Path(rest if separator else location)))


def default_url(start: Path | None = None) -> str:
    """`ETL_ML_LAKE`, else `.etl_ml/lake` beside the nearest pyproject.toml at or above `start`."""
    if url := os.environ.get("ETL_ML_LAKE"):
        return url
    here = (start or Path.cwd()).resolve()
    root = next((p for p in (here, *here.parents) if (p / "pyproject.toml").is_file()), here)
    return str(root / ".etl_ml" / "lake")
