"""`etl-ml metrics`: all pipelines of a lake, for Prometheus."""

from __future__ import annotations

import logging
import signal
import sys

from etl_ml.lake import open_lake
from etl_ml.monitor.exporter import start, text


def show_metrics() -> None:
    """The metrics as they are now, once."""
    sys.stdout.write(text(open_lake()))


def serve_metrics(host: str, port: int) -> None:
    """Answer scrapes until a signal says to stop."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    # Before any thread is started: whoever waits below is the only one who takes them.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    lake = open_lake()
    server = start(lake, host, port)
    print(f"Metrics of {lake.url} on http://{host}:{server.server_port}/metrics", flush=True)
    signal.sigwait(signals)
    server.shutdown()
