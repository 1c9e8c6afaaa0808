"""The seam that a package goes out by: what every target can do, and how one is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from etl_ml.deploy.folder import PackageFolder
from etl_ml.lake.backend import Unreachable
from etl_ml.lake.parquet_file import DiskFull
from etl_ml.spec.deployment import (
    AzureBlobTarget,
    AzureMlTarget,
    CustomTarget,
    FileTarget,
    GcsTarget,
    S3Target,
    SageMakerTarget,
)
from etl_ml.spec.error import EtlMlError, bounded
from etl_ml.transform.named import find_named

if TYPE_CHECKING:
    from etl_ml.deploy.package import Package
    from etl_ml.lake.stores import StoreSettings


class TargetError(EtlMlError):
    """A target that cannot be reached, refuses, or is not what it should be."""


@dataclass(frozen=True)
class Pointer:
    """What a target serves: `version`, since entry `entry` of the registry's log.

    `at` is that entry's time, by which one lake's entries are told from another's.
    """

    entry: int
    version: str
    at: str = ""


class Target(Protocol):
    """A place that a pipeline's champion is pushed to.

    A package is uploaded first, read back and asked; only when that was right everywhere does the
    pointer move. Every step may be done again, and after a kill at any moment will be.

    Attributes
    ----------
    type : as in the YAML
    url : for people, without secrets
    """

    type: str
    url: str

    def check(self) -> None:
        """One round trip before any work; raises `EtlMlError` where the target cannot be used."""

    def upload(self, package: Package) -> None:
        """Bring a package there under its version; what is served stays as it is."""

    def uploaded(self, version: str) -> PackageFolder:
        """The files of an uploaded package, as the target has them."""

    def current(self) -> Pointer | None:
        """What is served now; None before the first."""

    def point(self, pointer: Pointer) -> None:
        """Serve an uploaded version, unless a later entry is served already."""


@contextmanager
def storing(type: str, url: str) -> Iterator[None]:
    """Say of a store's refusal which target it is of."""
    try:
        yield
    except (DiskFull, Unreachable, TargetError) as error:
        raise TargetError(
            f"{type} target: {error.what}", seen=error.seen, where=url, fix=error.fix
        ) from None


def open_target(
    section: Any, pipeline: str, *, base: Path = Path(), settings: StoreSettings | None = None
) -> Target:
    """The target that a section of `deployment.targets` describes.

    Parameters
    ----------
    base : the folder that relative paths start from
    settings : of its store, from a Dagster resource; by default the provider's own chain

    Raises
    ------
    EtlMlError
        A class that cannot be found or called, or a store that cannot be opened.
    """
    if isinstance(section, CustomTarget):
        return _custom(section, pipeline)
    if isinstance(section, FileTarget):
        from etl_ml.deploy.file import file_target

        return file_target(section, pipeline, base)
    if isinstance(section, S3Target):
        from etl_ml.deploy.s3 import s3_target

        return s3_target(section, pipeline, settings)
    if isinstance(section, AzureBlobTarget):
        from etl_ml.deploy.azure_blob import azure_blob_target

        return azure_blob_target(section, pipeline, settings)
    if isinstance(section, GcsTarget):
        from etl_ml.deploy.gcs import gcs_target

        return gcs_target(section, pipeline)
    if isinstance(section, SageMakerTarget):
        from etl_ml.deploy.sagemaker import SageMaker

        return SageMaker(section, pipeline, settings)
    assert isinstance(section, AzureMlTarget)
    from etl_ml.deploy.azure_ml import AzureMl

    return AzureMl(section, pipeline, settings)


def _custom(section: CustomTarget, pipeline: str) -> Target:
    kind = find_named(
        section.type,
        what=f"target {section.type!r}",
        key="deployment.targets",
        kind="class",
        error=TargetError,
    )
    try:
        target: Target = kind(pipeline=pipeline, **section.options)
    except TypeError as error:  # the arguments are what the YAML says
        raise TargetError(
            f"target {section.type!r} cannot be made: {bounded(str(error), 200)}.",
            where="deployment.targets",
            fix="give the options that its class takes, beside `type`",
        ) from error
    missing = [
        name
        for name in ("type", "url", "check", "upload", "uploaded", "current", "point")
        if not hasattr(target, name)
    ]
    if missing:
        raise TargetError(
            f"target {section.type!r} has no {', '.join(missing)}.",
            where="deployment.targets",
            fix="give it all that etl_ml.deploy.Target names",
        )
    return target


def absolute(path: str, base: Path) -> Path:
    """A path of the YAML: from the home folder, or relative to defs.yaml."""
    return Path(os.path.abspath(base / Path(path.removeprefix("file://")).expanduser()))
