"""A model's package: everything needed to load it, to ask it and to know where it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from etl_ml.deploy.folder import Folder, NewFolder, PackageFolder
from etl_ml.deploy.signing import UntrustedPackage, sign, signed_by
from etl_ml.lake import Lake
from etl_ml.lake.backend import AlreadyExists, TooLarge
from etl_ml.lake.documents import dump_json
from etl_ml.lake.writer import encoded, file_ref
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    from etl_ml.train.model import Model

FORMAT = 2
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
_MOST = 1 << 20
_JUDGEMENT = ("evaluation_report.json", "model_card.md")


class UnreadablePackage(EtlMlError):
    """A package that is missing, damaged, or written by another version of etl_ml."""


@dataclass(frozen=True)
class Package:
    """A package wherever it lies, its files checked against the manifest when they are read.

    Attributes
    ----------
    manifest : parsed: format, pipeline, version, lineage, files with their hashes
    signed_by : the public key that its manifest is signed with; None for an unsigned one, which is
        read only where no key is configured
    """

    folder: PackageFolder
    manifest: Mapping[str, Any]
    signed_by: str | None = None

    @property
    def pipeline(self) -> str:
        return str(self.manifest["pipeline"])

    @property
    def version(self) -> str:
        return str(self.manifest["version"])

    @property
    def url(self) -> str:
        return self.folder.url

    @property
    def lineage(self) -> Mapping[str, str]:
        """Version by asset, of everything that the model descends from."""
        lineage: Mapping[str, str] = self.manifest["lineage"]
        return lineage

    @property
    def files(self) -> list[str]:
        """Names of the files that the manifest names."""
        return list(_hashes(self.manifest))

    def read(self, file: str) -> bytes:
        """A file's bytes, once their hash has been checked.

        Raises
        ------
        UnreadablePackage
            The file is missing, or is not what the manifest says.
        """
        ref = next((entry for entry in self.manifest["files"] if entry["path"] == file), None)
        try:
            data = self.folder.get(file, most=ref["bytes"] if ref else 0)
        except TooLarge:
            data = b""
        if data is None or ref is None or hashlib.sha256(data).hexdigest() != ref["sha256"]:
            raise UnreadablePackage(
                f"{self.pipeline} {self.version}: {file} is "
                + ("missing." if data is None or ref is None else "not the file that was packed."),
                where=f"{self.url}/{file}",
                fix="materialize deployed_model again",
            )
        return data

    def copy(self, to: NewFolder) -> Package:
        """The same package elsewhere, every file checked on the way; its manifest last."""
        for name, data in self.contents():
            to.put(name, data)
        return read_package(to)

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """All that the folder holds, every file checked; the manifest last."""
        for name in self.files:
            yield name, self.read(name)
        for name in (SIGNATURE, MANIFEST):
            if (data := _small(self.folder, name)) is not None:
                yield name, data

    @cached_property
    def model(self) -> Model:
        """The model; hashes are checked before the first byte is parsed."""
        from etl_ml.train.trusted import read_model

        return read_model(self.read("model.skops"), name=f"{self.url}/model.skops")


def pack(
    lake: Lake, pipeline: str, version: str, files: Mapping[str, Any], lineage: Mapping[str, str]
) -> Package:
    """Write a package into the registry; its manifest after the files, and its signature last.

    Doing it again gives the same package, with the evaluation that it was first packed with,
    restores what was damaged of it, and signs it if it was not signed.

    Raises
    ------
    UnreadablePackage
        There is another package of this version already, which is left as it is.
    """
    folder = registry_folder(lake, pipeline, version)
    stored = manifest_of(folder)
    packed = _hashes(_parsed(stored, folder.url)) if stored is not None else None
    refs = []
    for name, content in files.items():
        with encoded(content) as data:
            assert isinstance(data, bytes)  # bytes, text and JSON are all that a package has
            refs.append(asdict(ref := file_ref(name, data)))
            if packed is None or packed.get(name) == ref.sha256:
                folder.put(name, data)
    manifest = {
        "format": FORMAT,
        "pipeline": pipeline,
        "version": version,
        "lineage": dict(lineage),
        "files": refs,
    }
    if stored is None:
        with suppress(AlreadyExists):  # another process packed the version meanwhile
            folder.create(MANIFEST, dump_json(manifest))
        stored = manifest_of(folder)
    if _substance(_parsed(stored, folder.url)) != _substance(manifest):
        raise UnreadablePackage(
            f"{pipeline}: version {version} is packed already, with other content.",
            where=folder.url,
            fix="materialize trained_model again: a new version gets a new package",
        )
    if (signature := sign(stored or b"")) is not None:
        folder.put(SIGNATURE, signature)
    return read_package(folder)


def registry_folder(lake: Lake, pipeline: str, version: str) -> Folder:
    """Where a lake keeps the package of a version."""
    return Folder(lake.backend, f"{pipeline}/registry/models/{version}")


def open_package(lake: Lake, pipeline: str, version: str) -> Package:
    """A package of a lake's registry; see `read_package`."""
    package = read_package(registry_folder(lake, pipeline, version))
    if (package.pipeline, package.version) != (pipeline, version):
        raise UnreadablePackage(
            f"{pipeline}: in the place of version {version} is the package of "
            f"{package.pipeline} {package.version}.",
            where=package.url,
            fix="restore the package, or materialize deployed_model again",
        )
    return package


def read_package(folder: PackageFolder) -> Package:
    """The package in a folder, its signature checked.

    Raises
    ------
    UnreadablePackage
        There is none, or it is of another format.
    UntrustedPackage
        Its signature is missing where a key is configured, wrong, or by nobody who is trusted.
    """
    data = manifest_of(folder)
    manifest = _parsed(data, folder.url)
    signature = _small(folder, SIGNATURE)
    return Package(folder, manifest, signed_by(data or b"", signature, where=folder.url))


def manifest_of(folder: PackageFolder) -> bytes | None:
    """A package's manifest as it is stored, None where there is no package."""
    return _small(folder, MANIFEST)


def _small(folder: PackageFolder, name: str) -> bytes | None:
    try:
        return folder.get(name, most=_MOST)
    except TooLarge as error:
        raise UnreadablePackage(
            f"{name} cannot be read: it has more than {_MOST:,} bytes.",
            seen=f"{error.args[1]:,} bytes",
            where=f"{folder.url}/{name}",
            fix="materialize deployed_model again",
        ) from None


def _parsed(data: bytes | None, url: str) -> Mapping[str, Any]:
    name = url.rpartition("/")[2]
    try:
        if data is None:
            raise ValueError(f"there is no {MANIFEST}")
        manifest: Mapping[str, Any] = json.loads(data)
        if manifest["format"] != FORMAT:
            newer = manifest["format"] > FORMAT
            raise ValueError(
                f"format {manifest['format']}; this etl_ml reads {FORMAT}, "
                + ("install a newer etl_ml" if newer else "train and deploy again")
            )
        _hashes(manifest), dict(manifest["lineage"]), manifest["pipeline"] + manifest["version"]
        if any("/" in path or path.startswith(".") for path in _hashes(manifest)):
            raise ValueError("it names files outside of its folder")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadablePackage(
            f"no package of version {name} can be read: {error}.",
            where=url,
            fix="materialize deployed_model again",
        ) from None
    return manifest


def _hashes(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {entry["path"]: entry["sha256"] for entry in manifest["files"] if entry["bytes"] >= 0}


def _substance(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a package another one: a model may be judged again, and stays what it is."""
    hashes = {name: h for name, h in _hashes(manifest).items() if name not in _JUDGEMENT}
    return {**manifest, "files": hashes}


__all__ = [
    "FORMAT",
    "Package",
    "UnreadablePackage",
    "UntrustedPackage",
    "manifest_of",
    "open_package",
    "pack",
    "read_package",
    "registry_folder",
]
