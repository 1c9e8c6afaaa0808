"""What a version is made of. The manifest is written last: it is the commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from etl_ml import __version__
from etl_ml.lake.documents import dump_json
from etl_ml.spec.error import EtlMlError, bounded

FORMAT = 1


class UnreadableVersion(EtlMlError):
    """A stored version that is damaged, or written by a newer etl_ml."""


@dataclass(frozen=True)
class TableRef:
    """A table at one of its versions; `path` is relative to the lake.

    `content` is what its rows amount to (`content_of`), by which they are known again; `seal` what
    the store said of them when they were committed (`Scan`).
    """

    path: str
    delta_version: int
    rows: int
    content: str | None = None
    seal: str | None = None


@dataclass(frozen=True)
class FileRef:
    """A file of a version; `path` is relative to the version's folder."""

    path: str
    bytes: int
    sha256: str
    media_type: str


@dataclass(frozen=True)
class Manifest:
    """One committed version of one asset, and the versions that it was made from."""

    pipeline: str
    asset: str
    version: str
    run_id: str
    created_at: str
    code_version: str
    upstream: Mapping[str, str]
    table: TableRef | None
    files: tuple[FileRef, ...]
    format: int = FORMAT

    @property
    def folder(self) -> str:
        """The version's folder, relative to the lake."""
        return f"{self.pipeline}/files/{self.asset}/{self.version}"

    def dump(self) -> bytes:
        """The file: JSON, with a digest of everything else in it at its end."""
        fields = asdict(self)
        fields = {"format": fields.pop("format"), **fields}
        return dump_json({**fields, "sha256": _digest(json.loads(dump_json(fields)))})

    @staticmethod
    def load(data: bytes, path: str) -> Manifest:
        """Parse a manifest.

        Parameters
        ----------
        path : where it was found, ending with the version's folder and its name

        Raises
        ------
        UnreadableVersion
            The file is cut short, was changed, is no manifest, or is of a newer format.
        """
        try:
            fields: dict[str, Any] = json.loads(data)
            if (format_ := int(fields["format"])) > FORMAT:
                raise UnreadableVersion(
                    f"{path} has format {format_}; this etl_ml reads up to {FORMAT}.",
                    where=path,
                    fix=f"install an etl_ml newer than {__version__}",
                )
            if (digest := fields.pop("sha256", None)) is not None and digest != _digest(fields):
                raise ValueError("its digest is not that of its content")
            table = fields.pop("table")
            files = fields.pop("files")
            found = Manifest(
                **fields,
                table=TableRef(**table) if table else None,
                files=tuple(FileRef(**file) for file in files),
            )
            if not f"/{path}".endswith(f"/{found.folder}/manifest.json"):
                raise ValueError(f"it is that of {found.folder}")
            return found
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreadableVersion(
                f"{path} is damaged: {error}",
                seen=bounded(data[:60]),
                where=path,
                fix="ask for an earlier version, or restore the file",
            ) from None


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
