"""A model's package: everything needed to load it, to ask it and to know where it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any

from etl_ml.lake import Lake
from etl_ml.lake.backend import AlreadyExists
from etl_ml.lake.documents import dump_json
from etl_ml.lake.writer import encoded, file_ref
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import polars as pl

    from etl_ml.train.model import Model

FORMAT = 1
_SAMPLE = 20
_JUDGEMENT = ("evaluation_report.json", "model_card.md")
_NEEDED = (
    "etl_ml",
    "lightgbm",
    "narwhals",
    "numpy",
    "polars",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "skops",
)


class UnreadablePackage(EtlMlError):
    """A package that is missing, damaged, or written by a newer etl_ml."""


@dataclass(frozen=True)
class Package:
    """A package in a lake's registry, its files checked against the manifest when they are read."""

    lake: Lake
    pipeline: str
    version: str
    manifest: Mapping[str, Any]

    @property
    def url(self) -> str:
        return f"{self.lake.url}/{_folder(self.pipeline, self.version)}"

    @property
    def lineage(self) -> Mapping[str, str]:
        """Version by asset, of everything that the model descends from."""
        lineage: Mapping[str, str] = self.manifest["lineage"]
        return lineage

    def read(self, file: str) -> bytes:
        """A file's bytes, once their hash has been checked.

        Raises
        ------
        UnreadablePackage
            The file is missing, or is not what the manifest says.
        """
        expected = _hashes(self.manifest)
        data = self.lake.backend.get(f"{_folder(self.pipeline, self.version)}/{file}")
        if data is None or hashlib.sha256(data).hexdigest() != expected.get(file):
            raise UnreadablePackage(
                f"{self.pipeline} {self.version}: {file} is "
                + ("missing." if data is None else "not the file that was packed."),
                where=f"{self.url}/{file}",
                fix="materialize deployed_model again",
            )
        return data

    def copy(self, lake: Lake) -> Package:
        """The same package in another lake, every file checked on the way; its manifest last."""
        folder = _folder(self.pipeline, self.version)
        for name in _hashes(self.manifest):
            lake.backend.put(f"{folder}/{name}", self.read(name))
        lake.backend.put(f"{folder}/manifest.json", dump_json(dict(self.manifest)))
        return open_package(lake, self.pipeline, self.version)

    @cached_property
    def model(self) -> Model:
        """The model; hashes are checked before the first byte is parsed."""
        from etl_ml.train.trusted import read_model

        return read_model(self.read("model.skops"), name=f"{self.url}/model.skops")


def pack(
    lake: Lake, pipeline: str, version: str, files: Mapping[str, Any], lineage: Mapping[str, str]
) -> Package:
    """Write a package; its manifest last.

    Doing it again gives the same package, with the evaluation that it was first packed with, and
    restores what was damaged of it.

    Raises
    ------
    UnreadablePackage
        There is another package of this version already, which is left as it is.
    """
    folder = _folder(pipeline, version)
    packed = None
    if lake.backend.get(f"{folder}/manifest.json") is not None:
        packed = _hashes(open_package(lake, pipeline, version).manifest)
    refs = []
    for name, content in files.items():
        with encoded(content) as data:
            refs.append(asdict(ref := file_ref(name, data)))
            if packed is None or packed.get(name) == ref.sha256:
                lake.backend.put(f"{folder}/{name}", data)
    manifest = {
        "format": FORMAT,
        "pipeline": pipeline,
        "version": version,
        "lineage": dict(lineage),
        "files": refs,
    }
    if packed is None:
        with suppress(AlreadyExists):  # another process packed the version meanwhile
            lake.backend.create(f"{folder}/manifest.json", dump_json(manifest))
    package = open_package(lake, pipeline, version)
    if _substance(package.manifest) != _substance(manifest):
        raise UnreadablePackage(
            f"{pipeline}: version {version} is packed already, with other content.",
            where=package.url,
            fix="materialize trained_model again: a new version gets a new package",
        )
    return package


def _hashes(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {entry["path"]: entry["sha256"] for entry in manifest["files"]}


def _substance(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a package another one: a model may be judged again, and stays what it is."""
    hashes = {name: h for name, h in _hashes(manifest).items() if name not in _JUDGEMENT}
    return {**manifest, "files": hashes}


def open_package(lake: Lake, pipeline: str, version: str) -> Package:
    """A package of the registry.

    Raises
    ------
    UnreadablePackage
        There is none of that version, or it is of a newer format.
    """
    folder = _folder(pipeline, version)
    data = lake.backend.get(f"{folder}/manifest.json")
    try:
        if data is None:
            raise ValueError("there is no manifest.json")
        manifest = json.loads(data)
        if manifest["format"] > FORMAT:
            raise ValueError(f"format {manifest['format']}; this etl_ml reads up to {FORMAT}")
        _hashes(manifest), dict(manifest["lineage"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadablePackage(
            f"{pipeline}: no package of version {version} can be read: {error}.",
            where=f"{lake.url}/{folder}",
            fix="materialize deployed_model again",
        ) from None
    return Package(lake, pipeline, version, manifest)


def signature(pipeline: Pipeline, model: Model, rows: pl.DataFrame, answers: Any) -> dict[str, Any]:
    """What `signature.json` holds: inputs, output, and sample rows with their expected answers.

    Where a feature is sensitive there is no sample: its values are shown nowhere.
    """
    features = pipeline.features_of()
    target = pipeline.target
    sample: dict[str, Any] | None = None
    if not any(column.sensitive for column in features.values()):
        shown = rows.select(list(features)).head(_SAMPLE)
        said = "probabilities" if model.classes else "predictions"
        sample = {"rows": shown.to_dicts(), said: answers[: len(shown)]}
    return {
        "inputs": [
            {"name": name, "type": column.type, "nullable": column.nullable}
            for name, column in features.items()
        ],
        "output": {
            "column": target.column,
            "task": target.task,
            "classes": list(model.classes),
            "threshold": model.threshold if len(model.classes) == 2 else None,
        },
        "sample": sample,
    }


def requirements() -> str:
    """The exact versions that the package was made with, as `requirements.txt`."""
    return "".join(f"{name}=={metadata.version(name)}\n" for name in _NEEDED)


def _folder(pipeline: str, version: str) -> str:
    return f"{pipeline}/registry/models/{version}"
