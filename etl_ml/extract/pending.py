"""What a source holds that `raw_data` does not: counted, listed or asked for, never read.

A read notes beforehand what the source holds, and afterwards what it saw at the end; both stand in
`source.json` beside the version. What the source holds now, less that, is pending. So the answer
follows from the lake and the source alone, whoever asks and whenever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl_ml.extract.position import Cursor
from etl_ml.extract.tail import Seen
from etl_ml.lake.growing import SOURCE
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.source import (
    STREAMS,
    DynamoSource,
    FileSource,
    KafkaSource,
    KinesisSource,
    MongoSource,
    RestSource,
    SqlSource,
)

if TYPE_CHECKING:
    from etl_ml.lake.stores import StoreSettings
    from etl_ml.lake.version import Version

SECONDS = 10.0
"""How long a source may take to answer; one that takes longer cannot be counted."""


@dataclass(frozen=True)
class Pending:
    """Rows that wait to be read.

    Attributes
    ----------
    rows : how many; at least 1 where anything is new, None where the source cannot tell
    told : the same for people, with what limits it
    mark : of a source that may be half written: equal marks, equal content
    watched : where a change stream was listened to up to, for the next question
    """

    rows: int | None
    told: str
    mark: str | None = None
    watched: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Held:
    """What a source without a cursor holds, as far as that can be told cheaply.

    Attributes
    ----------
    mark : changes when the source does; None where nobody can tell
    rows, size : how many rows, or bytes, where one of these is known
    blind : what a change may be that the mark does not show, for people
    """

    mark: str | None
    rows: int | None = None
    size: int | None = None
    blind: str = ""

    def dump(self) -> dict[str, Any]:
        return {"mark": self.mark, "rows": self.rows, "size": self.size}


def pending(
    pipeline: Pipeline,
    raw: Version | None,
    *,
    base: Path,
    bound: int,
    settings: StoreSettings | None = None,
    watched: Mapping[str, Any] | None = None,
) -> Pending:
    """Ask a source what is new since a version of `raw_data`.

    Parameters
    ----------
    raw : the newest version; None where there is none, and everything is new
    base : the folder that relative paths start from
    bound : how far to count: more than so many new rows are told as so many
    watched : what the last answer's was, if it was about the same version

    Raises
    ------
    SourceError
        The source does not answer, refuses, or is not what was read before.
    """
    source = pipeline.source
    noted = _noted(raw)
    if isinstance(source, MongoSource) and raw is not None and "token" in noted:
        from etl_ml.extract.change_stream import changes

        found = changes(source, noted["token"], watched, bound)
        if found is not None and (not source.query or not found.rows):
            return found
        counted = _counted(pipeline, raw, noted, base, bound, settings)
        if found is None:
            return replace(counted, told=f"{counted.told} (the history of changes is lost)")
        return replace(counted, watched=found.watched)
    return _counted(pipeline, raw, noted, base, bound, settings)


def held(
    pipeline: Pipeline, *, base: Path, settings: StoreSettings | None = None
) -> dict[str, Any]:
    """What to note before a source is read; asked again of `pending` later.

    Raises
    ------
    SourceError
    """
    source, asked = pipeline.source, pipeline.automation.new_data
    noted: dict[str, Any] = {}
    if isinstance(source, MongoSource) and asked is not None and asked.watch:
        from etl_ml.extract.change_stream import token

        now = token(source)
        if now is not None:
            noted["token"] = now
    if source.incremental is None:
        noted |= _held(pipeline, base, settings).dump()
    return noted


def _noted(raw: Version | None) -> dict[str, Any]:
    if raw is None or not any(file.path == SOURCE for file in raw.manifest.files):
        return {}
    found: dict[str, Any] = raw.read(SOURCE)
    return found


def _counted(
    pipeline: Pipeline,
    raw: Version | None,
    noted: Mapping[str, Any],
    base: Path,
    bound: int,
    settings: StoreSettings | None,
) -> Pending:
    source = pipeline.source
    if isinstance(source, FileSource) and source.incremental is not None:
        from etl_ml.extract.file_count import new_files_of

        return new_files_of(pipeline, source, raw, noted, base, bound, settings)
    if isinstance(source, STREAMS):
        return _streamed(source, raw, base, bound, settings)
    if source.incremental is None:
        return _changed(_held(pipeline, base, settings), raw, noted, bound)
    cursor = Cursor.of(pipeline)
    seen = Seen.load(noted, cursor) if raw is not None else None
    if seen is None and raw is not None and (committed := raw.table.cursor):
        # A killed writer left no note: what the lag reads again is taken for new, once.
        position = cursor.load(committed["position"])
        seen = Seen(cursor.behind(position), position, 0, 0)
    if isinstance(source, MongoSource):
        from etl_ml.extract.mongodb_count import count_documents

        return count_documents(source, cursor, seen, bound)
    if isinstance(source, SqlSource):
        from etl_ml.extract.sql_count import count_rows

        return count_rows(source, cursor, seen, bound)
    if isinstance(source, RestSource):
        from etl_ml.extract.rest_count import count_first_page

        return count_first_page(source, pipeline.contract, cursor, seen)
    return Pending(None, f"a {source.type} source cannot tell what is new")


def _streamed(
    source: KafkaSource | KinesisSource,
    raw: Version | None,
    base: Path,
    bound: int,
    settings: StoreSettings | None,
) -> Pending:
    """Messages behind the committed places."""
    state = raw.table.cursor if raw is not None else None
    if isinstance(source, KafkaSource):
        from etl_ml.extract.kafka import pending as count_messages

        rows = count_messages(source, state, base=base)
    else:
        from etl_ml.extract.kinesis import pending as count_records

        rows = count_records(source, state, settings, most=bound)
    if state is None and source.start == "latest":
        # Nothing is asked for yet, but the first run has to mark from where.
        return Pending(max(rows, bound), "nothing was read yet; where to begin is to be kept")
    return Pending(min(rows, bound), f"{rows:,} messages are new")


def _held(pipeline: Pipeline, base: Path, settings: StoreSettings | None) -> Held:
    source = pipeline.source
    if isinstance(source, FileSource):
        from etl_ml.extract.file_count import held_files

        return held_files(source, base, settings)
    if isinstance(source, MongoSource):
        from etl_ml.extract.mongodb_count import held_documents

        return held_documents(source)
    if isinstance(source, SqlSource):
        from etl_ml.extract.sql_count import held_rows

        return held_rows(source)
    if isinstance(source, DynamoSource):
        from etl_ml.extract.dynamodb import open_dynamodb

        return open_dynamodb(source, pipeline.contract, settings).held()
    return Held(None)


def _changed(now: Held, raw: Version | None, noted: Mapping[str, Any], bound: int) -> Pending:
    """A source that is read whole: what differs from what was noted before the last read."""
    if now.mark is None:
        return Pending(None, "the source cannot tell whether it has changed")
    if raw is None:
        rows = bound if now.rows is None else now.rows
        return Pending(rows, "nothing was read yet", now.mark)
    if "mark" not in noted:
        return Pending(bound, "what was read last is not known", now.mark)
    if noted["mark"] == now.mark:
        return Pending(0, f"the source has not changed{now.blind}", now.mark)
    rows = 1
    if now.rows is not None and noted["rows"] is not None:
        rows = max(abs(now.rows - noted["rows"]), 1)
    elif now.size is not None and noted["size"]:
        rows = max(round(abs(now.size - noted["size"]) * raw.table.rows / noted["size"]), 1)
    return Pending(rows, f"the source has changed, by about {rows:,} rows", now.mark)


def marked(*parts: object) -> str:
    """Parts as a short text that is another one when any of them is."""
    import hashlib

    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()
