"""Tables that grow: rows and the cursor behind them in one Delta commit, each exactly once.

The table is opened once. Cursor and rows are read from that snapshot, and the commit is made on
that very handle: whoever was overtaken has written nothing, and begins anew from the new cursor. A
commit that a killed writer left without its manifest is taken over by the next one, so that no
cursor is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_ml.lake.backend import AlreadyExists, Batches, Moved, TableHandle
from etl_ml.lake.contention import attempts
from etl_ml.lake.manifest import Manifest, TableRef
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    from etl_ml.lake.lake import Lake
    from etl_ml.lake.version import Version


@dataclass(frozen=True)
class Increment:
    """What follows on a table.

    Attributes
    ----------
    rows : None where nothing follows
    cursor : what JSON can hold; the next increment starts from it
    replace : whether the rows take the place of all that were there
    source : what the source held when it was read, for who asks whether it holds more by now
    """

    rows: Batches | None
    cursor: Mapping[str, Any]
    replace: bool = False
    source: Mapping[str, Any] | None = None


SOURCE = "source.json"
"""The file of a `raw_data` version with what its source held."""


Grow = Callable[[TableHandle | None], Increment | None]
"""From a table (None: not there yet) to what follows on it; None, or no rows, when nothing does."""


def cursor_of(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The cursor that a commit was stamped with, None if it has none."""
    text = metadata.get("cursor")
    return dict(json.loads(text)) if text else None


def cursor_text(cursor: Mapping[str, Any]) -> str:
    """A committed cursor for people."""
    if "count" in cursor:
        return f"{cursor['count']} file{'s' if cursor['count'] != 1 else ''} read"
    return f"{cursor['column']} {cursor['position']}"


def write_growing(
    lake: Lake, pipeline: str, asset: str, grow: Grow, lineage: Mapping[str, Any]
) -> Version:
    """Commit what follows on a table, as the next version of the asset.

    Where nothing follows, the version has the table as it is.

    Raises
    ------
    Contended
        Other writers were first, time and again.
    """
    backend, path = lake.backend, f"{pipeline}/tables/{asset}"
    for wait in attempts(f"{pipeline}/{asset}", backend.url):
        handle = backend.open_table(path)
        if handle is not None:
            adopt(lake, pipeline, asset, handle)
        increment = grow(handle)
        # Claimed as late as can be, so that versions and commits come in one order.
        writer = lake.claim(pipeline, asset, **lineage)
        if increment is None or increment.rows is None:
            if handle is None:
                raise EtlMlError(f"{pipeline}/{asset}: there is nothing to begin with.")
            writer.refer(TableRef(path, handle.version, handle.rows))
        else:
            schema = increment.rows.schema
            try:
                writer.follow(handle or backend.create_table(path, schema), increment)
            except Moved:
                wait()
                continue
        if increment is not None and increment.source is not None:
            writer.file(SOURCE, increment.source)
        return writer.commit()
    raise AssertionError


def adopt(lake: Lake, pipeline: str, asset: str, head: TableHandle) -> None:
    """Write the manifest that a killed writer did not come to write."""
    stamp = head.metadata
    if "version" not in stamp:
        return
    manifest = Manifest(
        pipeline=pipeline,
        asset=asset,
        version=stamp["version"],
        run_id=stamp.get("run_id", ""),
        created_at=stamp.get("created_at", ""),
        code_version=stamp.get("code_version", ""),
        upstream={},
        table=TableRef(f"{pipeline}/tables/{asset}", head.version, head.rows),
        files=(),
    )
    name = f"{manifest.folder}/manifest.json"
    if lake.backend.get(name) is None:
        try:
            lake.backend.create(name, manifest.dump())
        except AlreadyExists:
            return
