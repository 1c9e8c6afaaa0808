"""Run-consistent reads: one run sees one version of each asset, and they belong together."""

from __future__ import annotations

import json
from collections.abc import Sequence

from etl_ml.lake.backend import AlreadyExists
from etl_ml.lake.documents import dump_json
from etl_ml.lake.lake import Lake, version_name
from etl_ml.lake.manifest import UnreadableVersion
from etl_ml.lake.version import MissingVersion, Version
from etl_ml.spec.error import EtlMlError, bounded


class Inconsistent(EtlMlError):
    """Two inputs of a step descend from different versions of one asset."""


class Run:
    """What one run wrote and read in one pipeline, remembered in the lake.

    Parameters
    ----------
    parents : the runs that this one continues, nearest first
    """

    def __init__(self, lake: Lake, pipeline: str, run_id: str, parents: Sequence[str] = ()) -> None:
        self._lake, self._pipeline, self._run_id = lake, pipeline, run_id
        self._parents = tuple(parents)
        self._closures: dict[tuple[str, str], dict[str, str]] = {}

    def wrote(self, asset: str, version: str) -> None:
        """Remember a version that this run committed."""
        name = self._record(self._run_id, "wrote", asset)
        self._lake.backend.put(name, dump_json({"version": version}))

    def written(self, asset: str) -> Version | None:
        """The version of an asset that this run committed last, None if it wrote none."""
        data = self._lake.backend.get(self._record(self._run_id, "wrote", asset))
        if data is None:
            return None
        return self._lake.open(self._pipeline, asset, str(json.loads(data)["version"]))

    def has_written(self, asset: str) -> bool:
        """Whether this run has committed a version of an asset."""
        return self._lake.backend.get(self._record(self._run_id, "wrote", asset)) is not None

    def read(self, inputs: Sequence[str]) -> dict[str, Version]:
        """One version of each input, chosen so that they belong together, and pinned.

        In this order: what this run wrote; what it already read; what the other inputs were made
        from; what the runs before it in the chain wrote or read, nearest first; the latest.

        Raises
        ------
        Inconsistent
            Two of them descend from different versions of one asset.
        MissingVersion
            One of them has no version.
        """
        while True:
            chosen = self._choose(inputs)
            self._agree(chosen)
            pinned = {asset: self._pin(asset, version) for asset, version in chosen.items()}
            if pinned == chosen:
                break  # else a parallel step of this run pinned another one first
        return {a: self._lake.open(self._pipeline, a, chosen[a]) for a in inputs}

    def _choose(self, inputs: Sequence[str]) -> dict[str, str]:
        own = {asset: self._recorded(self._run_id, asset) for asset in inputs}
        chosen = {asset: version for asset, version in own.items() if version is not None}
        while left := [asset for asset in inputs if asset not in chosen]:
            named = self._ancestors(chosen)
            if found := {asset: named[asset] for asset in left if asset in named}:
                chosen.update(found)
                continue
            # None follows from another: the one furthest downstream decides for the rest.
            offered = {asset: self._offered(asset) for asset in left}
            above = {up for asset, v in offered.items() for up in self.closure(asset, v)}
            asset = next((a for a in left if a not in above), left[0])
            chosen[asset] = offered[asset]
        return chosen

    def _offered(self, asset: str) -> str:
        for run_id in self._parents:
            if version := self._recorded(run_id, asset):
                return version
        latest = self._lake.latest(self._pipeline, asset)
        if latest is None:
            raise MissingVersion(
                f"{self._pipeline}/{asset} has never been materialized.",
                where=self._lake.url,
                fix=f"materialize {self._pipeline}/{asset} first, or select it in the same run",
            )
        return latest

    def _agree(self, chosen: dict[str, str]) -> None:
        known: dict[str, tuple[str, str]] = {
            asset: (version, "this run") for asset, version in chosen.items()
        }
        for asset, version in chosen.items():
            for ancestor, other in self.closure(asset, version).items():
                first, by = known.setdefault(ancestor, (other, asset))
                if first != other:
                    raise Inconsistent(
                        f"{self._pipeline}: {asset} {version} was made from {ancestor} {other}, "
                        f"but {by} uses {ancestor} {first}.",
                        fix=f"materialize {self._pipeline}/{asset} again, "
                        f"with everything between it and {ancestor}",
                    )

    def _ancestors(self, chosen: dict[str, str]) -> dict[str, str]:
        return {
            ancestor: named
            for asset, version in chosen.items()
            for ancestor, named in self.closure(asset, version).items()
        }

    def closure(self, asset: str, version: str) -> dict[str, str]:
        """Every version that this one descends from."""
        if (asset, version) not in self._closures:
            direct = self._lake.open(self._pipeline, asset, version).manifest.upstream
            above = (self.closure(up, v) for up, v in direct.items())
            merged = {name: v for closure in above for name, v in closure.items()}
            self._closures[asset, version] = {**merged, **direct}
        return self._closures[asset, version]

    def _record(self, run_id: str, verb: str, asset: str) -> str:
        return f"{self._pipeline}/runs/{run_id}/{verb}/{asset}.json"

    def _recorded(self, run_id: str, asset: str) -> str | None:
        for verb in ("wrote", "read"):
            name = self._record(run_id, verb, asset)
            if data := self._lake.backend.get(name):
                return _version_in(data, f"{self._lake.url}/{name}")
        return None

    def _pin(self, asset: str, version: str) -> str:
        if self._recorded(self._run_id, asset) == version:
            return version
        name = self._record(self._run_id, "read", asset)
        try:
            self._lake.backend.create(name, dump_json({"version": version}))
        except AlreadyExists:
            return self._recorded(self._run_id, asset) or version
        return version


def _version_in(record: bytes, where: str) -> str:
    try:
        return version_name(json.loads(record)["version"])
    except (ValueError, KeyError, TypeError):
        raise UnreadableVersion(
            "the record of what a run read or wrote is damaged.",
            seen=bounded(record[:60]),
            where=where,
            fix="start a new run",
        ) from None
