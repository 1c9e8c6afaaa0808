"""A target that is a folder of objects: packages, and a log of which of them is served.

    <url>/<pipeline>/models/<version>/…       the package
    <url>/<pipeline>/champions/<entry>.json   what is served since this entry of the registry's log

The highest entry is now. An entry is created if absent and never changed: a slow push that comes
after a later one cannot take its place.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, suppress

from etl_ml.deploy.folder import Folder, Objects
from etl_ml.deploy.package import MANIFEST, Package, UnreadablePackage, read_package
from etl_ml.deploy.target import Pointer, TargetError, storing
from etl_ml.lake.backend import AlreadyExists
from etl_ml.lake.documents import dump_json
from etl_ml.lake.lake import version_name

_PROBE = "check.json"


class Publication:
    """What one pipeline has published in a store.

    Parameters
    ----------
    objects : the store, from the target's URL on
    prefix : of the pipeline in it
    """

    def __init__(self, type: str, objects: Objects, prefix: str) -> None:
        self.type = type
        self._objects, self._prefix = objects, prefix.strip("/")
        self.url = f"{objects.url}/{self._prefix}" if self._prefix else objects.url

    def check(self) -> None:
        with self._told():
            self._objects.put(self._at(_PROBE), dump_json({"format": 1}))

    def upload(self, package: Package) -> None:
        folder = self.uploaded(package.version)
        for name, data in package.contents():
            with self._told():
                if name != MANIFEST:
                    folder.put(name, data)
                    continue
                # One that came since it was looked for is left; the push says whose it is.
                with suppress(AlreadyExists):
                    folder.create(name, data)

    def uploaded(self, version: str) -> Folder:
        return Folder(self._objects, self._at(f"models/{version}"))

    def current(self) -> Pointer | None:
        with self._told():
            names = self._objects.objects(self._at("champions"))
            entries = [name for name in names if name.endswith(".json")]
            if not entries:
                return None
            name = self._at(f"champions/{entries[-1]}")
            data = self._objects.get(name) or b""
        try:
            said = json.loads(data)
            return Pointer(int(said["entry"]), str(said["version"]), str(said["at"]))
        except (ValueError, KeyError, TypeError) as error:
            raise TargetError(
                f"{name} is damaged: {error}.",
                where=self.url,
                fix="restore the file; without it nobody knows what is served",
            ) from None

    def point(self, pointer: Pointer) -> None:
        name = self._at(f"champions/{version_name(pointer.entry)}.json")
        try:
            with self._told():
                self._objects.create(name, dump_json(vars(pointer)))
        except AlreadyExists:
            raise TargetError(
                f"{self.type} target: entry {pointer.entry} is another one there: another lake "
                "publishes to this place.",
                where=self.url,
                fix="give each lake a URL of its own",
            ) from None

    def champion(self) -> Package | None:
        """The package that is served now; None before the first.

        Raises
        ------
        UnreadablePackage, UntrustedPackage, TargetError
        """
        pointer = self.current()
        if pointer is None:
            return None
        package = read_package(self.uploaded(pointer.version))
        if package.version != pointer.version:
            raise UnreadablePackage(
                f"in the place of version {pointer.version} is the package of {package.version}.",
                where=package.url,
                fix="materialize deployed_model again",
            )
        return package

    def _at(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _told(self) -> AbstractContextManager[None]:
        return storing(self.type, self.url)
