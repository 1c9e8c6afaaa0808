"""Fitted estimators as bytes: skops, never pickle; equal estimators give equal bytes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Collection
from typing import Any

from etl_ml.spec.error import EtlMlError, bounded, listed


class UntrustedModel(EtlMlError):
    """A stored estimator with types that the reader was not told to trust."""


class UnreadableModel(UntrustedModel):
    """A stored estimator that is damaged, or was made by another version of etl_ml."""


def dump_estimator(estimator: object) -> bytes:
    """Serialise a fitted estimator with skops.

    skops names arrays by their address in memory; here they are numbered in order of appearance,
    and the archive carries no times, so that the same estimator is the same bytes.
    """
    from skops.io import dumps

    with zipfile.ZipFile(io.BytesIO(dumps(estimator))) as source:
        schema = json.loads(source.read("schema.json"))
        ids: dict[int, int] = {}
        files: dict[str, str] = {}
        _renumber(schema, ids, files)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as sink:
            sink.writestr(_entry("schema.json"), json.dumps(schema, separators=(",", ":")))
            for old, new in files.items():
                sink.writestr(_entry(new), _without_padding(source.read(old)))
    return out.getvalue()


def _without_padding(data: bytes) -> bytes:
    """A tree's nodes are a C struct, between whose fields stands whatever memory held before."""
    import numpy as np

    if not data.startswith(b"\x93NUMPY"):
        return data
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.names is None:
        return data
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    out = io.BytesIO()
    np.save(out, clean, allow_pickle=False)
    return out.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _renumber(node: Any, ids: dict[int, int], files: dict[str, str]) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("__id__"), int):
            node["__id__"] = ids.setdefault(node["__id__"], len(ids))
        if "__loader__" in node and isinstance(node.get("file"), str):
            suffix = node["file"].rpartition(".")[2]
            node["file"] = files.setdefault(node["file"], f"{len(files)}.{suffix}")
        for value in node.values():
            _renumber(value, ids, files)
    elif isinstance(node, list):
        for value in node:
            _renumber(value, ids, files)


def unknown_types(data: bytes, trusted: Collection[str]) -> list[str]:
    """The types in a serialised estimator that are neither skops' own safe ones nor trusted."""
    from skops.io import get_untrusted_types

    return sorted(set(get_untrusted_types(data=data)) - set(trusted))


def load_estimator(data: bytes, *, trusted: Collection[str], name: str = "model.skops") -> Any:
    """Read what `dump_estimator` wrote; nothing but the trusted types is ever constructed.

    Parameters
    ----------
    trusted : full names of the types beyond skops' own safe ones

    Raises
    ------
    UntrustedModel
        The file names other types, or is no skops file; none of it was constructed.
    """
    from skops.io import loads

    try:
        unknown = unknown_types(data, trusted)
    except Exception as error:  # whatever a damaged archive brings about
        raise _unreadable(name, error) from error
    if unknown:
        raise UntrustedModel(
            f"{name} holds types that are not trusted: {listed(unknown)}.",
            fix="if they are yours, set ETL_ML_TRUSTED_TYPES to their names, with commas between",
        )
    try:
        return loads(data, trusted=sorted(trusted))
    except Exception as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> UnreadableModel:
    return UnreadableModel(
        f"{name} is not a sound skops file ({type(error).__name__}: {bounded(str(error))}).",
        fix="train and deploy the model again",
    )
