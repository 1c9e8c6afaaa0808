"""Which files were read: 16 bytes each, in the cursor of the commit that has their rows."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etl_ml.extract.file import FoundFile
from etl_ml.extract.source_error import SourceError
from etl_ml.spec.pipeline import Pipeline


def new_files(
    pipeline: Pipeline, found: Iterable[FoundFile], state: Mapping[str, Any] | None
) -> Sequence[FoundFile]:
    """Those that are new or have changed since a state.

    Raises
    ------
    SourceError
        One has changed, and without a key nobody can tell which of its rows are new.
    """
    before = _unpacked(state["files"]) if state else {}
    new = [file for file in found if before.get(_digest(file.name)) != _version(file)]
    changed = [file.name for file in new if _digest(file.name) in before]
    if changed and not pipeline.row_key():
        raise SourceError(
            f"{changed[0]}: the file has changed since it was read.",
            seen=f"{len(changed)} such files" if len(changed) > 1 else None,
            where="source.incremental",
            fix="set contract.primary_key, so that its rows replace the older ones, put new rows "
            f"in new files, or read everything again: etl-ml refresh {pipeline.name}",
        )
    return new


def state_of(found: Sequence[FoundFile]) -> dict[str, Any]:
    """What `new_files` asks for after these were read."""
    now = {_digest(file.name): _version(file) for file in found}
    packed = b"".join(name + version for name, version in now.items())
    return {"files": base64.b64encode(packed).decode(), "count": len(found)}


def _unpacked(text: str) -> dict[bytes, bytes]:
    data = base64.b64decode(text)
    return {data[at : at + 8]: data[at + 8 : at + 16] for at in range(0, len(data), 16)}


def _version(file: FoundFile) -> bytes:
    return _digest(file.size, file.version)


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
