"""prometheus_client, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from etl_ml.spec.error import EtlMlError


class MissingPrometheus(EtlMlError):
    """prometheus_client is not installed."""


@contextmanager
def needs_prometheus() -> Iterator[None]:
    """Around its import.

    Raises
    ------
    MissingPrometheus
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "prometheus_client":
            raise
        raise MissingPrometheus(
            "metrics need prometheus_client, which is not installed.",
            fix="pip install 'etl_ml[monitor]'",
        ) from None
