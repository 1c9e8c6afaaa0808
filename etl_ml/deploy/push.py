"""A package goes out to every target: read back and asked everywhere, before a pointer moves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etl_ml.deploy.package import Package, read_package
from etl_ml.deploy.target import Pointer, Target, TargetError
from etl_ml.deploy.verify import TOLERANCE, largest_difference
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Question:
    """What a package is asked, and what it must answer.

    Attributes
    ----------
    rows : frame of n rows before preprocessing
    expected : float array (n, k) of probabilities, or (n,) of numbers, as training gave them
    trusted : the classes and functions of its pipeline that may be used
    """

    rows: pl.DataFrame
    expected: np.ndarray[Any, Any]
    trusted: Collection[str] = ()

    def difference(self, package: Package) -> float:
        """How far the answers of a package in a fresh process are from the expected ones.

        Raises
        ------
        EtlMlError
            It cannot be read or loaded, or its answers are too far.
        """
        found = largest_difference(package, self.rows, self.expected, self.trusted)
        if not found <= TOLERANCE:  # NaN is no answer
            raise OtherAnswers(
                f"loaded in a fresh process, the model's answers differ from training's "
                f"by up to {found:.2g}; {TOLERANCE:g} is allowed.",
                where=package.url,
                fix="see that nothing changes the package's files, then deploy again",
            )
        return found


class OtherAnswers(EtlMlError):
    """A package that does not answer as it did in training."""


def push(package: Package, targets: Sequence[Target], question: Question) -> list[dict[str, Any]]:
    """Upload a package to all targets, read it back and ask it; no pointer moves.

    Returns
    -------
    list
        What `deployment_report.json` says of each target.

    Raises
    ------
    EtlMlError
        Names the target. Whatever was uploaded is not served.
    """
    for target in targets:
        target.check()
    told = []
    for target in targets:
        target.upload(package)
        there = read_package(target.uploaded(package.version))
        if dict(there.manifest) != dict(package.manifest):
            raise TargetError(
                f"version {package.version} at the {target.type} target is another package.",
                where=there.url,
                fix="remove it there, or give each lake a URL of its own",
            )
        for name in there.files:
            there.read(name)
        told.append(
            {
                "type": target.type,
                "url": target.url,
                "verified": True,
                "max_abs_difference": question.difference(there),
            }
        )
    return told


def point(targets: Sequence[Target], pointer: Pointer) -> Mapping[str, str]:
    """Let every target serve an uploaded version; returns why one is behind, by its URL."""
    behind: dict[str, str] = {}
    for target in targets:
        try:
            target.point(pointer)
            now = target.current()
            if now is None or now.entry < pointer.entry:
                raise TargetError(
                    f"it still serves {now.version if now else 'nothing'}.",
                    fix="materialize deployed_model again",
                )
            if now.entry == pointer.entry and now.version != pointer.version:
                raise TargetError(
                    f"entry {now.entry} there is of version {now.version}.",
                    fix="give each lake a URL of its own",
                )
        except EtlMlError as error:
            behind[target.url] = str(error)
    return behind


def behind(targets: Sequence[Target], pointer: Pointer) -> list[Target]:
    """The targets that serve an earlier champion than the registry's, or none.

    Raises
    ------
    TargetError
        One is ahead of the registry: another lake publishes there.
    """
    late = []
    for target in targets:
        now = target.current()
        if now is not None and now.entry > pointer.entry:
            raise TargetError(
                f"the {target.type} target is at entry {now.entry}, and this lake's log of "
                f"champions at {pointer.entry}: another lake publishes there.",
                where=target.url,
                fix="give each lake a URL of its own",
            )
        if now != pointer:
            late.append(target)
    return late
