"""What a pipeline names as `module:attribute`, imported."""

from __future__ import annotations

import importlib
from typing import Any

from etl_ml.spec.error import EtlMlError, nearest


def find_named(name: str, *, what: str, key: str, kind: str, error: type[EtlMlError]) -> Any:
    """Import `module:attribute`.

    Parameters
    ----------
    what : begins each message, with the name
    key : the pipeline's key that names it
    kind : `class`, or `function` for anything that can be called
    error : what is raised

    Raises
    ------
    error
        There is no such module, or nothing of that kind in it.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as missing:
        raise error(
            f"{what} cannot be imported: {missing}.",
            where=key,
            fix=f"install it, or put {module_name.partition('.')[0]} where Python finds it, "
            "beside the project",
        ) from None
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) if kind == "class" else callable(found)):
        close = nearest(attribute, dir(module))
        raise error(
            f"{what}: {module_name} has no {kind} {attribute!r}.",
            where=getattr(module, "__file__", None) or key,
            close=repr(close) if close else None,
            fix=f"name a {kind} of the module",
        )
    return found
