"""What a package runs on: written down exactly, and nothing else to be found when it is asked."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from etl_ml.spec.error import EtlMlError, listed

_NEEDED = ("etl_ml", "narwhals", "numpy", "polars", "pyarrow", "scikit-learn", "scipy", "skops")


class OtherVersions(EtlMlError):
    """An environment that does not have what a package was made with."""


def requirements(stored: bytes, also: Iterable[str] = ()) -> str:
    """The exact versions of what a model runs on, as `requirements.txt`.

    Parameters
    ----------
    stored : the skops file, whose types tell which libraries it needs
    also : further distributions
    """
    provided = _provided()
    named = {name for module in _modules(stored) for name in provided.get(module, ())}
    wanted = {canonicalize_name(name): name for name in (*named, *also, *_NEEDED)}
    return "".join(f"{name}=={metadata.version(name)}\n" for _, name in sorted(wanted.items()))


def _modules(stored: bytes) -> set[str]:
    """Top-level modules of the types in a skops file."""
    with zipfile.ZipFile(io.BytesIO(stored)) as archive:
        schema = json.loads(archive.read("schema.json"))
    return {module.partition(".")[0] for module in _named(schema)}


def _named(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(module := node.get("__module__"), str):
            yield module
        for value in node.values():
            yield from _named(value)
    elif isinstance(node, list):
        for value in node:
            yield from _named(value)


def confine(text: str) -> None:
    """From here on this process finds no library but these requirements and what they require.

    Parameters
    ----------
    text : of a `requirements.txt` with exact versions

    Raises
    ------
    OtherVersions
        What is installed is not what the text says.
    """
    pinned = [Requirement(line) for line in text.splitlines() if line.strip()]
    others = [
        f"{requirement}, installed is {found or 'none'}"
        for requirement in pinned
        if (found := _installed(requirement.name)) is None or found not in requirement.specifier
    ]
    if others:
        raise OtherVersions(
            f"the package was made with other versions: {listed(others)}.",
            where="requirements.txt",
            fix="install what the package's requirements.txt says",
        )
    allowed = _closure([requirement.name for requirement in pinned])
    hidden = {
        module
        for module, names in _provided().items()
        if not any(canonicalize_name(name) in allowed for name in names)
    }
    sys.meta_path[:] = [_Confined(hidden, tuple(sys.meta_path))]
    for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
        del sys.modules[name]  # it was imported on the way here, and would be found there


@cache
def _provided() -> Mapping[str, Sequence[str]]:
    """Distributions by top-level module; it reads the files of all that is installed."""
    return metadata.packages_distributions()


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _closure(names: Iterable[str]) -> set[str]:
    """The distributions, and all that they require here."""
    found: set[tuple[str, str]] = set()
    waiting = [(name, "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        asked = (canonicalize_name(name), extra)
        if asked in found or _installed(name) is None:
            continue
        found.add(asked)
        for line in metadata.requires(name) or ():
            required = Requirement(line)
            if required.marker is None or required.marker.evaluate({"extra": extra}):
                waiting += [(required.name, also) for also in ("", *required.extras)]
    return {name for name, _ in found}


class _Confined:
    """Finds what is not hidden, by the finders that were there."""

    def __init__(self, hidden: set[str], finders: tuple[Any, ...]) -> None:
        self._hidden, self._finders = hidden, finders

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in self._hidden:
            return None
        for finder in self._finders:
            spec: ModuleSpec | None = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None
