"""The first rows of a file, a table or a collection, and how a pipeline would name it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import ValidationError

from etl_ml.extract.extract import FilesReader
from etl_ml.extract.file import open_files
from etl_ml.extract.source_error import SourceError
from etl_ml.lake.identity import INTERNAL
from etl_ml.lake.stores import is_remote
from etl_ml.spec.contract import Contract
from etl_ml.spec.error import bounded
from etl_ml.spec.source import FileSource, MongoSource, SqlSource, public

if TYPE_CHECKING:
    import pyarrow as pa

    from etl_ml.extract.reader import Reader

ROWS = 100_000
"""Rows that are looked at; of a database a tenth of them."""
_SQL = ("mysql", "mariadb", "postgresql", "postgres", "sqlite")
_MONGODB = ("mongodb", "mongodb+srv")


@dataclass(frozen=True)
class Sample:
    """Rows as they were read, and where they come from.

    Attributes
    ----------
    rows : frame of the columns as the source gives them; text formats as text
    source : what stands under `source:` in a pipeline, without any secret
    name : what a pipeline over it may be called
    key : the columns that the source itself knows a row by
    whole : whether these are all rows
    asks_for : environment variables that the pipeline will need, and that are not set
    """

    rows: pl.DataFrame
    source: dict[str, Any]
    name: str
    key: tuple[str, ...] = ()
    whole: bool = True
    asks_for: tuple[str, ...] = ()

    @property
    def typed(self) -> bool:
        """Whether the source has types, so that text is text."""
        return self.source["type"] != "file" or not all(
            kind == pl.String for kind in self.rows.dtypes
        )


def read_sample(data: str, table: str | None = None, *, beside: Path) -> Sample:
    """Read the first rows of what a person names.

    Parameters
    ----------
    data : a path, glob or URL of files; or the URL of a database
    table : a database's table, or `database.collection`
    beside : the folder of the pipeline to be, from which its paths start

    Raises
    ------
    SourceError
        It cannot be read, or has no row.
    """
    scheme = data.partition("://")[0].partition("+")[0] if "://" in data else ""
    if scheme in _SQL:
        found = _sql(data, _named(table, "--table users"))
    elif scheme == "mongodb":
        found = _mongodb(data, _named(table, "--table shop.orders"))
    elif scheme and not is_remote(data):
        raise SourceError(
            f"{bounded(public(data))} is nothing that can be read.",
            where="DATA",
            fix="give a file, s3:// az:// gs:// https://, mongodb://, mysql://, postgresql:// or "
            "sqlite:///",
        )
    else:
        found = _files(data, beside)
    if not len(found.rows):
        raise SourceError(f"{bounded(public(data))} has no row.", fix="give some that has")
    return found


def _named(table: str | None, example: str) -> str:
    if table is None:
        raise SourceError(
            "a database has many tables.", where="DATA", fix=f"name one, for example {example}"
        )
    return table


def _files(data: str, beside: Path) -> Sample:
    path = data if is_remote(data) else str(Path(data).expanduser().absolute())
    origin, batches = open_files(_section(FileSource, path=path), Path.cwd())
    frame, whole = _head(FilesReader(origin, batches), ROWS)
    name = re.sub(r"(\.(csv|jsonl|ndjson|parquet|pq|gz|zst))+$", "", Path(path).name)
    shown = path if is_remote(data) else _relative(path, beside)
    return Sample(frame, {"type": "file", "path": shown}, _identifier(name), whole=whole)


def _relative(path: str, beside: Path) -> str:
    """Relative where both are in one project, so that it can be moved; else as it is."""
    root = next((p for p in beside.parents if (p / "pyproject.toml").is_file()), beside)
    inside = Path(path).is_relative_to(root)
    return os.path.relpath(path, beside) if inside else path


def _sql(url: str, table: str) -> Sample:
    from etl_ml.extract.sql import open_sql

    source = _section(SqlSource, url=url, table=table, batch_rows=ROWS // 10)
    anything = Contract.model_construct(columns={}, primary_key=())
    reader = open_sql(source, anything, (), None)
    frame, whole = _head(reader, ROWS // 10)
    name = table.rpartition(".")[2]
    shown, missing = _variable(url, name)
    key = tuple(getattr(reader, "own_key", ()))
    described = {"type": "sql", "url": shown, "table": table}
    return Sample(frame, described, _identifier(name), key, whole, missing)


def _mongodb(uri: str, table: str) -> Sample:
    database, _, collection = table.partition(".")
    if not collection:
        raise SourceError(
            f"{bounded(table)} does not name a collection.", fix="write --table database.collection"
        )
    source = _section(MongoSource, uri=uri, database=database, collection=collection)
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        with MongoClient[Any](uri, serverSelectionTimeoutMS=10_000) as client:
            found = client[database][collection]
            documents = list(found.find(limit=ROWS // 10))
            whole = len(documents) < ROWS // 10
    except PyMongoError as error:
        raise SourceError(
            f"{source.address} cannot be read ({type(error).__name__}).",
            seen=bounded(str(error).partition(",")[0], 160),
            fix="see that the server is up, and user, password and names are right",
        ) from None
    shown, missing = _variable(uri, collection)
    described = {"type": "mongodb", "uri": shown, "database": database, "collection": collection}
    rows = pl.DataFrame(_columns([dict(_flat(document)) for document in documents]))
    return Sample(rows, described, _identifier(collection), ("_id",), whole, missing)


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _columns(documents: list[dict[str, Any]]) -> list[pl.Series]:
    """One series a field; of several types, text."""
    from bson import Decimal128, ObjectId

    def plain(value: Any) -> Any:
        if isinstance(value, ObjectId):
            return str(value)
        return float(value.to_decimal()) if isinstance(value, Decimal128) else value

    names = dict.fromkeys(name for document in documents for name in document)
    columns = []
    for name in names:
        values = [plain(document.get(name)) for document in documents]
        try:
            columns.append(pl.Series(name, values, strict=True))
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            texts = [None if value is None else str(value) for value in values]
            columns.append(pl.Series(name, texts, pl.String))
    return columns


def _variable(url: str, name: str) -> tuple[str, tuple[str, ...]]:
    """A URL as the YAML may hold it: through an environment variable where it has a secret."""
    if "@" not in url:
        return url, ()
    known = next((key for key, value in os.environ.items() if value == url), None)
    variable = known or f"{_identifier(name).upper()}_URL"
    return f"{{{{ env.{variable} }}}}", () if known else (variable,)


def _identifier(name: str) -> str:
    found = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")[:60]
    return found if found[:1].isalpha() else f"pipeline_{found}".rstrip("_")


def _section(kind: Any, **keys: Any) -> Any:
    type_ = kind.model_fields["type"].annotation.__args__[0]
    try:
        return kind(type=type_, **keys)
    except ValidationError as error:
        problem = error.errors()[0]
        raise SourceError(
            f"{problem['loc'][-1]}: {problem['msg'].removeprefix('Value error, ')}.",
            where="DATA",
            fix="correct it",
        ) from None


def _head(reader: Reader, most: int) -> tuple[pl.DataFrame, bool]:
    """The first rows, and whether there are no others."""
    frames: list[pl.DataFrame] = []
    rows, whole = 0, True
    for batch in reader:
        frames.append(_frame(batch))
        rows += batch.num_rows
        if rows >= most:
            whole = False
            break
    if not frames:
        return pl.DataFrame(), True
    found = pl.concat(frames).head(most)
    return found.drop([name for name in found.columns if name in INTERNAL]), whole


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame
