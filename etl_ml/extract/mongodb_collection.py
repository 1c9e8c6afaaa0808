"""A MongoDB collection that is read: how it is reached, asked, and what its refusals mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote_plus

from etl_ml.extract.decoding import ID
from etl_ml.extract.source_error import SourceError, SourceUnavailable
from etl_ml.spec.error import bounded, listed, nearest
from etl_ml.spec.source import MongoSource

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection

# Codes of the server's answers that mean: ask again.
_HEALS = {6, 7, 43, 63, 89, 91, 133, 134, 150, 189, 234, 237, 262, 9001, 10107, 11600, 11602}
_HEALS |= {13388, 13435, 13436}


class MongoCollection:
    """One collection or view, as `source` names it.

    Parameters
    ----------
    seconds : how long to look for a server, where the URI does not say

    Attributes
    ----------
    unique_ids : whether the server lets no two documents have one `_id`; not so for a view, and
        not known before `check`
    """

    def __init__(self, source: MongoSource, seconds: float = 15) -> None:
        self._source, self._seconds = source, seconds
        self.address = source.address
        self.unique_ids = False

    @cached_property
    def filter(self) -> dict[str, Any]:
        """`source.query` with its dates, ids and decimals."""
        from bson import json_util

        found: dict[str, Any] = json_util.loads(
            json_util.dumps(self._source.query),
            json_options=json_util.JSONOptions(tz_aware=True, tzinfo=UTC),
        )
        return found

    def where(self, field: str, **conditions: Any) -> dict[str, Any]:
        """The filter, and conditions on a field: `gte=…`, `gt=…`, `lt=…`, `lte=…`.

        An `_id` that is an ObjectId's 24 digits is compared as one, a day as its first moment.
        """
        asked = {field: {f"${name}": _place(field, value) for name, value in conditions.items()}}
        return {"$and": [self.filter, asked]} if self.filter else asked

    @cached_property
    def client(self) -> MongoClient[dict[str, Any]]:
        from pymongo import MongoClient
        from pymongo.errors import ConfigurationError, InvalidURI

        uri = self._source.uri.get_secret_value()
        options: dict[str, Any] = {"appname": "etl_ml"}
        if "serverselectiontimeoutms" not in uri.lower():
            options["serverSelectionTimeoutMS"] = int(self._seconds * 1000)
        try:
            return MongoClient(uri, **options)
        except (InvalidURI, ConfigurationError, ValueError) as error:
            # What is taken for the database may be half of a password.
            secret = isinstance(error, InvalidURI) and "@" in uri
            told = "it cannot be parsed" if secret else self._without_secret(error)
            self.refuse(
                f"the URI cannot be used: {told}",
                "correct source.uri; percent-encode user and password",
            )

    @cached_property
    def collection(self) -> Collection[dict[str, Any]]:
        from pymongo.read_preferences import make_read_preference, read_pref_mode_from_name

        mode = read_pref_mode_from_name(self._source.read_preference)
        database = self.client[self._source.database]
        return database.get_collection(
            self._source.collection, read_preference=make_read_preference(mode, None)
        )

    def check(self, query: Mapping[str, Any]) -> None:
        """Ask the server once, so that what is wrong is said before any work."""
        from pymongo.errors import OperationFailure, PyMongoError

        database, collection = self._source.database, self._source.collection
        try:
            self.client.admin.command("ping")
            try:
                entries = list(self.client[database].list_collections())
                known = [entry["name"] for entry in entries]
                self.unique_ids = not any(
                    entry["name"] == collection and entry.get("type") == "view" for entry in entries
                )
            except OperationFailure as error:
                if error.code != 13:
                    raise
                known = [collection]  # may read it, but not list it
            self.collection.find_one(query, projection={ID: 1})
            if collection not in known:
                self._is_not_there(known)
        except PyMongoError as error:
            self.explain(error)

    def _is_not_there(self, known: list[str]) -> NoReturn:
        database = self._source.database
        if not known:
            names = self.client.list_database_names()
            close = nearest(database, names)
            raise SourceError(
                f"{self.address}: there is no database {database!r}, or it is empty.",
                seen=f"the server has {listed(names)}",
                where="source.database",
                close=close and repr(close),
                fix="correct the name",
            )
        close = nearest(self._source.collection, known)
        raise SourceError(
            f"{self.address}: there is no collection {self._source.collection!r}.",
            seen=f"{database} has {listed(sorted(known))}",
            where="source.collection",
            close=close and repr(close),
            fix="correct the name",
        )

    def explain(self, error: Exception) -> NoReturn:
        """Raise the SourceError that says what a failure means."""
        from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

        kind = SourceUnavailable if heals(error) else SourceError
        if isinstance(error, OperationFailure):
            if error.code in (18, 8000) or "uthentication failed" in str(error):
                self.refuse("the server refuses the user", "correct user and password in the URI")
            if error.code == 13:
                self.refuse(
                    f"the user may not read {self._source.database}.{self._source.collection}",
                    "grant the role `read` on the database",
                )
            place = "source.query" if error.code in (2, 9, 14, 51075) else "source"
            self.refuse(
                f"the server answers {self._without_secret(error.details or error)}",
                "correct it, or look at the server's log",
                place,
                kind,
            )
        if isinstance(error, ServerSelectionTimeoutError):
            self.refuse(
                f"no server answers: {self._without_secret(error)}",
                "correct the host in source.uri; look at the network, TLS and access list",
                kind=kind,
            )
        self.refuse(
            f"the connection is lost: {self._without_secret(error)}", "run it again", kind=kind
        )

    def refuse(
        self,
        problem: str,
        fix: str,
        where: str = "source.uri",
        kind: type[SourceError] = SourceError,
    ) -> NoReturn:
        """Raise a SourceError about this collection."""
        raise kind(f"{self.address}: {problem}.", where=where, fix=fix) from None

    def _without_secret(self, error: object) -> str:
        if isinstance(error, Mapping):
            error = error.get("errmsg", "with an error")
        text = re.split(r", Timeout: | \(configured timeouts", str(error), maxsplit=1)[0]
        secret = self._source.uri.get_secret_value().partition("://")[2].rpartition("@")[0]
        password = secret.partition(":")[2]
        for part in (secret, password, unquote_plus(password)):
            text = text.replace(part, "…") if len(part) > 2 else text
        return bounded(text.rstrip("."), 200).strip("'\"")


def heals(error: Exception) -> bool:
    """Whether the same question may be answered later."""
    from pymongo.errors import AutoReconnect, OperationFailure, ServerSelectionTimeoutError

    if isinstance(error, ServerSelectionTimeoutError):
        return "Name or service not known" not in str(error)
    if isinstance(error, OperationFailure):
        return error.code in _HEALS or error.has_error_label("RetryableError")
    return isinstance(error, AutoReconnect)


def _place(field: str, value: Any) -> Any:
    from bson import ObjectId

    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    is_id = field == ID and isinstance(value, str) and ObjectId.is_valid(value)
    return ObjectId(value) if is_id else value
