"""Whether a destination could be written to, found out by one round trip."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.lake.stores import is_remote
from etl_ml.load.load_error import LoadError
from etl_ml.spec.destination import (
    DynamoDestination,
    FileDestination,
    MongoDestination,
    SqlDestination,
)
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from etl_ml.lake.stores import StoreSettings


def reach(
    destination: MongoDestination | SqlDestination | DynamoDestination | FileDestination,
    *,
    base: Path = Path(),
    settings: StoreSettings | None = None,
) -> None:
    """Connect, and see that the user is known; no row is written.

    Raises
    ------
    LoadError
        Says what is wrong, and what to do.
    """
    if isinstance(destination, MongoDestination):
        from etl_ml.load.mongodb_server import connected

        with connected(destination):
            return
    if isinstance(destination, SqlDestination):
        _reach_sql(destination)
    elif isinstance(destination, DynamoDestination):
        from etl_ml.load.dynamodb import asked, client_of

        client = client_of(destination, settings)
        asked(destination, lambda: client.describe_table(TableName=destination.table), patience=5)
    elif is_remote(destination.path):
        _reach_store(destination, base, settings)
    else:
        _reach_folder(destination, base)


def _reach_sql(destination: SqlDestination) -> None:
    from etl_ml.load.sql import engine_of

    engine, _ = engine_of(destination)
    from sqlalchemy.exc import DBAPIError

    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
    except DBAPIError as error:
        raise LoadError(
            f"{destination.display} cannot be reached ({type(error.orig).__name__}).",
            seen=bounded(str(error.orig), 160),
            fix="see that the server is up, and host, user, password and database are right",
        ) from None
    finally:
        engine.dispose()


def _reach_store(destination: FileDestination, base: Path, settings: StoreSettings | None) -> None:
    import obstore

    from etl_ml.lake.stores import open_store
    from etl_ml.load.file import Place

    name = f".etl_ml-check-{uuid.uuid4().hex[:8]}"
    place = Place(destination, base, settings)
    with place.writing(name) as sink:
        sink.write(b"etl_ml doctor\n")
    store, prefix = open_store(destination.path, place.settings)
    obstore.delete(store, f"{prefix.rstrip('/')}/{name}".strip("/"))


def _reach_folder(destination: FileDestination, base: Path) -> None:
    path = base / Path(destination.path).expanduser()
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not os.access(there if there.is_dir() else there.parent, os.W_OK):
        raise LoadError(
            f"{destination.display} cannot be written.",
            seen=f"{there} belongs to another user",
            fix="correct the path, or give this user the right to write there",
        )
