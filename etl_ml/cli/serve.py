"""`etl-ml serve`: a champion over HTTP."""

from __future__ import annotations

import os
from typing import Any

from pydantic import ValidationError

from etl_ml.serve.settings import Settings
from etl_ml.spec.error import EtlMlError

_TOKEN = "ETL_ML_SERVE_TOKEN"


def serve_model(what: str | None, **options: Any) -> None:
    """Serve until a signal says to stop.

    Raises
    ------
    EtlMlError
        An option cannot be used, or there is nothing to serve.
    """
    options["token"] = os.environ.get(_TOKEN) or None
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        raise EtlMlError(
            f"--{name.replace('_', '-')}: {problem['msg']}.",
            where=f"ETL_ML_SERVE_{name.upper()}, if it is not on the command line",
            fix="see etl-ml serve --help",
        ) from None
    # Before Polars is imported: requests run side by side, and each has one thread.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    from etl_ml.monitor.traffic import LiveTraffic
    from etl_ml.serve.server import serve

    serve(what, settings, [LiveTraffic] if settings.live else [])
