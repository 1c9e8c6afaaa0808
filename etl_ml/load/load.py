"""The front door: one version's rows, or one model, to one destination."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.lake.progress import Progress
from etl_ml.load.rows import Rows

if TYPE_CHECKING:
    from etl_ml.lake import Version
    from etl_ml.lake.stores import StoreSettings
    from etl_ml.spec.contract import Contract
    from etl_ml.spec.destination import (
        DynamoDestination,
        FileDestination,
        MongoDestination,
        SqlDestination,
    )


@dataclass(frozen=True)
class Loaded:
    """What got to a destination.

    Attributes
    ----------
    destination : shown to people, without secrets
    version : of `clean_data`, or of the model
    rows : of the version, all of them at the destination now; for a model: its files
    bytes : as they were sent
    """

    destination: str
    mode: str
    version: str
    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class ModelFiles:
    """A deployed package: its files by name."""

    pipeline: str
    version: str
    files: Mapping[str, bytes]


def load(
    version: Version,
    destination: MongoDestination | SqlDestination | DynamoDestination | FileDestination,
    *,
    contract: Contract,
    primary_key: Sequence[str] = (),
    base: Path = Path(),
    settings: StoreSettings | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Loaded:
    """Take the rows of a version to a destination; doing it again changes nothing.

    Parameters
    ----------
    version : of clean_data, with a table of n rows
    primary_key : what the destination's `key` defaults to
    base : the folder that relative paths start from
    settings : where an object store or DynamoDB is and who asks; by default the provider's chain
    progress : takes a line every few seconds

    Raises
    ------
    LoadError
        Nothing of this version can be seen at the destination, save for what `append` and `upsert`
        had written to MongoDB and DynamoDB until then.
    """
    rows = Rows.of(version, contract)
    told = Progress(f"Loading {destination.display}", rows.total, progress)
    key = destination.key or tuple(primary_key)
    if destination.type == "sql":
        from etl_ml.load import sql

        sql.load_rows(rows, destination, key, told)
    elif destination.type == "mongodb":
        import etl_ml.load.mongodb as mongodb_

        mongodb_.load_rows(rows, destination, key, told)
    elif destination.type == "dynamodb":
        import etl_ml.load.dynamodb as dynamodb_

        dynamodb_.load_rows(rows, destination, key, told, settings)
    else:
        import etl_ml.load.file as file_

        file_.load_rows(rows, destination, base, told, settings)
    told.done()
    return Loaded(
        destination.display, destination.mode, rows.version, rows.total, told.bytes, told.seconds
    )


def load_model(
    model: ModelFiles,
    destination: MongoDestination | FileDestination,
    *,
    base: Path = Path(),
    settings: StoreSettings | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Loaded:
    """Take a model's files to a destination; the pointer to the latest one moves last.

    Raises
    ------
    LoadError
        The pointer still names the model that it named before.
    """
    told = Progress(f"Loading {destination.display}", len(model.files), progress)
    if destination.type == "mongodb":
        import etl_ml.load.mongodb as mongodb_

        mongodb_.load_model(model, destination, told)
    else:
        import etl_ml.load.file as file_

        file_.load_model(model, destination, base, told, settings)
    told.done()
    return Loaded(
        destination.display,
        destination.mode,
        model.version,
        len(model.files),
        told.bytes,
        told.seconds,
    )
