"""A MongoDB server that may go away and come back."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from etl_ml.lake.backoff import Backoff
from etl_ml.lake.progress import Progress
from etl_ml.load.load_error import LoadError
from etl_ml.spec.destination import MongoDestination
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from pymongo import MongoClient


T = TypeVar("T")
_ELECTS, _GONE = "the replica set has no primary", "the server cannot be reached"


@contextmanager
def connected(destination: MongoDestination) -> Iterator[MongoClient[dict[str, Any]]]:
    """A client whose server has answered; what cannot heal is named at once."""
    from pymongo import MongoClient
    from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError

    uri = destination.uri.get_secret_value()
    waits = (
        {} if "serverselectiontimeoutms" in uri.lower() else {"serverSelectionTimeoutMS": 10_000}
    )
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(uri, **waits, appname="etl_ml")  # type: ignore[arg-type]
    except (InvalidURI, ConfigurationError, ValueError) as error:
        # Its words quote the URI's parts, but for what is wrong with an option.
        told = bounded(str(error), 120) if "@" not in uri else None
        raise LoadError(
            "the uri of mongodb cannot be used.",
            seen=told,
            where="load: uri",
            fix="write mongodb://user:password@host:port/?options, user and password "
            "percent-encoded",
        ) from None
    with client:
        _refuse_unknown(uri, destination)
        try:
            client[destination.database].command("ping")
            # Whoever may not read cannot see what is there already.
            client[destination.database].list_collection_names(filter={"name": "x"})
        except PyMongoError as error:
            raise explained(error, destination) from None
        yield client


def _refuse_unknown(uri: str, destination: MongoDestination) -> None:
    """Tell of hosts that have no address at once: the driver would go on asking for them."""
    if uri.startswith("mongodb+srv"):
        return  # the driver has asked for it
    from pymongo.uri_parser import parse_uri

    for host, port in parse_uri(uri)["nodelist"]:
        if host.endswith(".sock"):
            return
        try:
            socket.getaddrinfo(host, port)
        except socket.gaierror as error:
            if error.errno != socket.EAI_NONAME:
                return
        else:
            return
    raise LoadError(
        "the host is unknown.", where=destination.display, fix="correct the host in uri"
    )


class Server:
    """Asks again, with longer and longer waits, while the server is away."""

    def __init__(self, destination: MongoDestination, progress: Progress) -> None:
        self._destination, self._progress = destination, progress

    def ask(self, question: Callable[[], T]) -> T:
        """The answer.

        Raises
        ------
        LoadError
            The server refuses, or stays away.
        """
        return self.insist(lambda again: question())

    def insist(self, question: Callable[[bool], T]) -> T:
        """As `ask`; the question is told whether it may have got through before."""
        from pymongo.errors import PyMongoError

        backoff, again = Backoff(), False
        while True:
            try:
                return question(again)
            except PyMongoError as error:
                reason = explained(error, self._destination)
                if not _heals(error):
                    raise reason from None
            self._progress.say(f"interrupted ({reason.what}); trying again")
            backoff.wait(reason)
            again = True


def _heals(error: Exception) -> bool:
    from pymongo.errors import ConnectionFailure, OperationFailure

    if isinstance(error, ConnectionFailure):
        return "SSL" not in str(error)
    # Among them: not primary, interrupted, shutdown, write conflict, lock timeout
    healing = {6, 7, 24, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}
    return isinstance(error, OperationFailure) and (
        error.code in healing or error.has_error_label("RetryableWriteError")
    )


def explained(error: Exception, destination: MongoDestination) -> LoadError:
    code = getattr(error, "code", None)
    text = str(error)
    what, fix = "the server refused", None
    if code in (18, 8000) or "Authentication failed" in text:
        what, fix = "the user or the password is wrong", "correct user and password in uri"
    elif code == 13:
        what = "the user lacks a right on the database"
        fix = f"grant it readWrite on {destination.database}"
    elif any(t in text for t in ("not known", "nodename", "getaddrinfo", "resolution", "DNS")):
        what, fix = "the host is unknown", "correct the host in uri"
    elif "No replica set members match selector" in text or code in (10107, 13435):
        what, fix = _ELECTS, "wait until one is elected"
    elif code is None:
        what = _GONE
        fix = "start the server, or correct host and port in uri"
    # Its words may quote a document.
    told = f" ({code})" if code is not None and fix is None else ""
    found = LoadError(f"{what}{told}.", where=destination.display, fix=fix)
    found.heals = what in (_ELECTS, _GONE)
    return found
