"""A package goes out to every target: read back and asked everywhere, before a pointer moves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etl_ml.deploy.package import Package, manifest_of, read_package
from etl_ml.deploy.target import Pointer, Target, TargetError
from etl_ml.deploy.verify import TOLERANCE, OtherAnswers, largest_difference
from etl_ml.lake import Log
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
        _see_that_it_is_free(target, package)
    told = []
    for target in targets:
        target.upload(package)
        there = read_package(target.uploaded(package.version))
        if dict(there.manifest) != dict(package.manifest):
            raise _taken(target, package.version)
        told.append(
            {
                "type": target.type,
                "url": target.url,
                "verified": True,
                # Every file is read back, and its hash checked, on the way to the fresh process.
                "max_abs_difference": question.difference(there),
            }
        )
    return told


def _see_that_it_is_free(target: Target, package: Package) -> None:
    """Nothing of another lake's package is overwritten, not even for a moment."""
    there = manifest_of(target.uploaded(package.version))
    if there is not None and there != manifest_of(package.folder):
        raise _taken(target, package.version)


def _taken(target: Target, version: str) -> TargetError:
    return TargetError(
        f"version {version} at the {target.type} target is another package.",
        where=target.uploaded(version).url,
        fix="give each lake a URL of its own; if it is damaged there, remove it first",
    )


def see_whose_they_are(targets: Sequence[Target], log: Log) -> None:
    """See that whatever the targets serve, this lake has put there.

    Raises
    ------
    TargetError
        One serves what is not in the log: another lake publishes there.
    """
    # Before the log: a pointer only follows its entry.
    served = [(target, target.current()) for target in targets]
    for target, pointer in served:
        if pointer is None:
            continue
        entry = log.entry(pointer.entry)
        if entry is None or Pointer(pointer.entry, entry.version, entry.at) != pointer:
            raise TargetError(
                f"the {target.type} target serves version {pointer.version} as entry "
                f"{pointer.entry} of a log of champions that is not this lake's: another lake "
                "publishes there.",
                where=target.url,
                fix="give each lake a URL of its own; a lake that was restored from a copy needs "
                "the newer entries of its registry/log",
            )


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
            if now.entry == pointer.entry and now != pointer:
                raise TargetError(
                    f"entry {now.entry} there is of version {now.version}.",
                    fix="give each lake a URL of its own",
                )
        except EtlMlError as error:
            behind[target.url] = str(error)
    return behind
