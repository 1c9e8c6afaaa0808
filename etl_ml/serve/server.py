"""uvicorn around the service: one process, or several that share a socket."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.serve.app import create_app
from etl_ml.serve.champion import Champion
from etl_ml.serve.metrics import Metrics, share
from etl_ml.serve.missing_extra import needs_extra
from etl_ml.serve.scorer import Scorer
from etl_ml.serve.service import Service
from etl_ml.serve.shadow import Shadow
from etl_ml.serve.source import Source, find_source, first_version, shadow_version
from etl_ml.spec.error import EtlMlError

with needs_extra("serve"):
    from uvicorn import Config, Server
    from uvicorn.supervisors import Multiprocess

    from etl_ml.serve.protocol import BoundedProtocol

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from etl_ml.deploy import Package
    from etl_ml.serve.guard import App
    from etl_ml.serve.service import Observer
    from etl_ml.serve.settings import Settings

    Watch = Callable[[Callable[[str], Package], CollectorRegistry], Observer]

log = logging.getLogger("etl_ml.serve")

# Load balancers keep idle connections for a minute; who closes first must not be the service.
_IDLE_SECONDS = 75
_STOP_SECONDS = 30
_OBJECTS = 50_000


@dataclass(frozen=True)
class Factory:
    """Makes the application in the process that will answer; the model is loaded there."""

    what: str | None
    settings: Settings
    watches: Sequence[Watch]

    def __call__(self) -> App:
        _logs()
        made = make_app(find_source(self.what), self.settings, self.watches)
        _settle()
        return made


def make_app(source: Source, settings: Settings, watches: Sequence[Watch] = ()) -> App:
    """The service of what a source serves, loaded and asked.

    Parameters
    ----------
    watches : each makes an observer of what is asked and answered, from what opens the package of
        a version and the registry that `/metrics` tells

    Raises
    ------
    EtlMlError
        There is nothing to serve, or it cannot be served.
    """
    metrics = Metrics()
    champion = Champion(source, settings, metrics)
    observers = [watch(source.open, metrics.registry) for watch in watches]
    if settings.shadow is not None:
        package = source.open(shadow_version(settings.shadow))
        observers.append(Shadow(Scorer(package, unknown=settings.unknown_columns), metrics))
    champion.follow()
    log.info("%s", champion.scorer)
    return create_app(Service(champion, settings, metrics, observers), settings, metrics)


def serve(what: str | None, settings: Settings, watches: Sequence[Watch] = ()) -> None:
    """Serve until a signal says to stop; then answer what has come in, and end.

    Parameters
    ----------
    what : as `find_source` takes it
    watches : as `make_app` takes them; of several processes each calls them, so they are functions
        or classes of a module

    Raises
    ------
    EtlMlError
        There is nothing to serve, it cannot be served, or the address is taken.
    """
    _logs()
    source = find_source(what)
    alone = settings.workers == 1
    # A mistake is told before anything listens; several processes load the model each for itself.
    version = first_version(source)
    application = make_app(source, settings, watches) if alone else Factory(what, settings, watches)
    _settle()
    signer = source.open(version).signed_by
    listening = _listen(settings)
    host, port = listening.getsockname()[:2]
    said = f"signed by {signer}" if signer else "not signed, and no key is configured"
    print(f"Serving {source.url}, now version {version} ({said})", flush=True)
    print(f"on http://{host}:{port}; see /docs, and docs/serving.md for each format", flush=True)
    with _shared(settings):
        config = Config(
            application,
            factory=not alone,
            workers=settings.workers,
            http=BoundedProtocol,
            ws="none",
            loop="uvloop",
            lifespan="on",
            log_config=None,
            access_log=settings.access_log,
            server_header=False,
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        if alone:
            # uvicorn ends in order, and then by the signal that it was sent: that would be a crash.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: None)
            Server(config).run(sockets=[listening])
        else:
            Multiprocess(config, sockets=[listening]).run()


def _shared(settings: Settings) -> AbstractContextManager[object]:
    """Where several processes put their metrics."""
    if settings.workers == 1:
        return nullcontext()
    folder = tempfile.TemporaryDirectory(prefix="etl_ml_metrics_")
    share(Path(folder.name))
    return folder


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
    except OSError as error:
        raise EtlMlError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}.",
            fix="give another --port or --host; --port 0 takes any that is free",
        ) from None
    listening.set_inheritable(True)
    return listening


def _settle() -> None:
    """What is loaded stays: a request's many small objects are not to have it looked through."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, 20, 100)


def _logs() -> None:
    """Lines on standard error, in every process."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
