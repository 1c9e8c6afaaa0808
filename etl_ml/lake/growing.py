"""Tables that grow: rows and the cursor behind them in one Delta commit, each exactly once.

The table is opened once. Cursor and rows are read from that snapshot, and the commit is made on
that very handle: whoever was overtaken has written nothing, and begins anew from the new cursor. A
commit that a killed writer left without its manifest is taken over by the next one, so that no
cursor is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_ml.lake.backend import AlreadyExists, Batches, Moved, TableHandle
from etl_ml.lake.contention import attempts
from etl_ml.lake.manifest import Manifest, TableRef
from etl_ml.spec.error import EtlMlError, listed

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
    committed : called once they are in the lake
    """

    rows: Batches | None
    cursor: Mapping[str, Any]
    replace: bool = False
    committed: Callable[[], None] = lambda: None
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
    position = cursor["position"]
    if isinstance(position, Mapping):  # one for each part of a stream
        position = listed(f"{part}:{place}" for part, place in position.items())
    return f"{cursor['column']} {position}"


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
        head = adopt(lake, pipeline, asset, handle) if handle is not None else None
        increment = grow(handle)
        # Claimed as late as can be, so that versions and commits come in one order.
        writer = lake.claim(pipeline, asset, **lineage)
        if increment is None or increment.rows is None:
            if handle is None:
                raise EtlMlError(
                    f"{pipeline}/{asset}: there is nothing to begin with.",
                    fix="see that the source has rows, then materialize it again",
                )
            writer.refer(head or TableRef(path, handle.version, handle.rows))
        else:
            schema = increment.rows.schema
            try:
                following = handle or backend.create_table(path, schema)
                writer.follow(following, increment, head.content if head else None)
            except Moved:
                wait()
                continue
        if increment is not None and increment.source is not None:
            writer.file(SOURCE, increment.source)
        version = writer.commit()
        if increment is not None:
            increment.committed()
        return version
    raise AssertionError


def adopt(lake: Lake, pipeline: str, asset: str, head: TableHandle) -> TableRef | None:
    """The table as the version has it that made it, whose writer may have left no manifest."""
    stamp = head.metadata
    if "version" not in stamp:
        return None
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
    data = lake.backend.get(name)
    if data is not None:
        found = Manifest.load(data, f"{lake.url}/{name}").table
        return found if found and found.delta_version == head.version else None
    with suppress(AlreadyExists):
        lake.backend.create(name, manifest.dump())
    return None
