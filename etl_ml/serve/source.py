"""Where a service takes its model from: a lake's registry, a target, or one package."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from etl_ml.deploy import Package, Publication, open_package, published, read_package
from etl_ml.deploy.file import local_objects
from etl_ml.deploy.folder import Folder
from etl_ml.deploy.package import MANIFEST
from etl_ml.lake import Lake, Log, open_lake
from etl_ml.lake.lake import default_url, version_name
from etl_ml.lake.stores import is_remote
from etl_ml.spec.error import EtlMlError, nearest

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Where SageMaker and Azure ML put a model in its container.
_SAGEMAKER, _AZURE_ML = "/opt/ml/model", "AZUREML_MODEL_DIR"


class NothingToServe(EtlMlError):
    """There is no champion, or no such pipeline or package."""


class Source(Protocol):
    """What is served now, and any version that was.

    Attributes
    ----------
    url : for people, without secrets
    """

    @property
    def url(self) -> str: ...

    def current(self) -> str | None:
        """The champion's version; None before the first."""

    def open(self, version: str) -> Package:
        """A package, its signature checked."""


@dataclass(frozen=True)
class Registry:
    """The champion of a pipeline in a lake."""

    lake: Lake
    pipeline: str

    @property
    def url(self) -> str:
        return f"{self.lake.url}/{self.pipeline}"

    def current(self) -> str | None:
        head = Log(self.lake, self.pipeline).head()
        return head.version if head else None

    def open(self, version: str) -> Package:
        return open_package(self.lake, self.pipeline, version)


@dataclass(frozen=True)
class Published:
    """What a target serves."""

    publication: Publication

    @property
    def url(self) -> str:
        return self.publication.url

    def current(self) -> str | None:
        pointer = self.publication.current()
        return pointer.version if pointer else None

    def open(self, version: str) -> Package:
        return read_package(self.publication.uploaded(version))


@dataclass(frozen=True)
class Pinned:
    """One package, which no other follows."""

    package: Package

    @property
    def url(self) -> str:
        return self.package.url

    def current(self) -> str | None:
        return self.package.version

    def open(self, version: str) -> Package:
        if version != self.package.version:
            raise NothingToServe(
                f"there is no version {version} beside one package.",
                where=self.url,
                fix="serve the pipeline, or the target that it is pushed to",
            )
        return self.package


def find_source(what: str | None = None) -> Source:
    """The source that a name or a URL means.

    Parameters
    ----------
    what : a pipeline of the lake (`ETL_ML_LAKE`); the URL or folder of a target with its pipeline;
        the folder of one package; by default the package that SageMaker or Azure ML mounted

    Raises
    ------
    NothingToServe
        There is nothing of that kind.
    """
    what = what or _mounted()
    if what is None:
        raise NothingToServe(
            "it is not said what to serve.", fix="name a pipeline, or the URL of a target"
        )
    if _NAME.fullmatch(what):
        return _registry(what)
    if is_remote(what):
        return Published(published(what))
    if "://" in what and not what.startswith("file://"):
        raise NothingToServe(
            f"nothing is served from {what.partition('://')[0][:20]}://.",
            fix="name a pipeline, a folder, s3://bucket/prefix/pipeline or the like of az:// or gs://",
        )
    folder = Path(os.path.abspath(Path(what.removeprefix("file://")).expanduser()))
    if not folder.is_dir():
        raise NothingToServe(
            "there is no such folder.", where=str(folder), fix="name a pipeline, or a folder"
        )
    package = _package_below(folder)
    if package is not None:
        return Pinned(read_package(Folder(local_objects(package.parent), package.name)))
    return Published(published(str(folder)))


def first_version(source: Source) -> str:
    """The champion's version.

    Raises
    ------
    NothingToServe
        There is none yet.
    """
    version = source.current()
    if version is None:
        raise NothingToServe(
            "no model has been deployed here yet.",
            where=source.url,
            fix="materialize deployed_model, then serve it",
        )
    return version


def shadow_version(version: str) -> str:
    """`3` and `0000000003` are one."""
    if not version.isdecimal():
        raise NothingToServe(f"{version[:40]!r} is no version.", where="--shadow", fix="give 3")
    return version_name(version)


def _registry(pipeline: str) -> Registry:
    lake = open_lake(default_url())
    known = lake.pipelines()
    if pipeline not in known:
        close = nearest(pipeline, known)
        raise NothingToServe(
            f"the lake has no pipeline {pipeline!r}.",
            where=lake.url,
            close=repr(close) if close else None,
            fix="name one that has run; of a folder of that name, write ./ before it",
        )
    return Registry(lake, pipeline)


def _mounted() -> str | None:
    places = [os.environ.get(_AZURE_ML), _SAGEMAKER]
    return next((place for place in places if place and Path(place).is_dir()), None)


def _package_below(folder: Path) -> Path | None:
    """The folder with a manifest: this one, or the only one in it, as Azure ML mounts a model."""
    if (folder / MANIFEST).is_file():
        return folder
    below = [path for path in folder.iterdir() if path.is_dir()]
    return below[0] if len(below) == 1 and (below[0] / MANIFEST).is_file() else None
