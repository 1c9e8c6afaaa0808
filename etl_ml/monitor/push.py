"""A pipeline's metrics, pushed where a run ends and nobody is there to be scraped."""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from etl_ml.lake import Lake
from etl_ml.monitor.metrics import LakeMetrics
from etl_ml.monitor.prometheus import needs_prometheus
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.source import public

_SECONDS = 5.0
_JOB = "etl_ml"


class NotPushed(EtlMlError):
    """A push gateway that did not take a pipeline's metrics."""


def push(gateway: str, lake: Lake, pipeline: str) -> None:
    """Put a pipeline's metrics in place of those that it pushed before.

    They are those of the exporter: the group `job="etl_ml", pipeline=…` is whole each time.

    Parameters
    ----------
    gateway : `http://host:9091`, with `user:password@` where it asks for them

    Raises
    ------
    NotPushed
        It is not reached within five seconds, or refuses.
    """
    with needs_prometheus():
        from prometheus_client import CollectorRegistry, push_to_gateway
        from prometheus_client.registry import Collector

    families = LakeMetrics(lake).families([pipeline])

    class Families(Collector):
        def collect(self) -> Any:
            return families

    registry = CollectorRegistry()
    registry.register(Families())
    url, handler = _handler(gateway)
    try:
        push_to_gateway(url, _JOB, registry, {"pipeline": pipeline}, _SECONDS, handler)
    except urllib.error.HTTPError as error:
        fix = "correct user and password" if error.code == 401 else "look into its log"
        raise _refused(gateway, f"answers {error.code}", fix) from None
    except (OSError, ValueError) as error:
        how = f"cannot be reached ({type(error).__name__})"
        raise _refused(gateway, how, "correct the URL, or see whether it is up") from None


def _refused(gateway: str, how: str, fix: str) -> NotPushed:
    where = public(gateway if "://" in gateway else f"http://{gateway}")
    return NotPushed(f"the push gateway at {where} {how}.", where="ETL_ML_PUSHGATEWAY", fix=fix)


def _handler(gateway: str) -> tuple[str, Callable[..., Any]]:
    """The URL without credentials, and what sends them."""
    from prometheus_client.exposition import basic_auth_handler, default_handler

    parts = urlsplit(gateway if "://" in gateway else f"http://{gateway}")
    if not parts.username:
        return gateway, default_handler
    user, password = unquote(parts.username), unquote(parts.password or "")

    def send(**request: Any) -> Any:
        return basic_auth_handler(**request, username=user, password=password)

    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl(), send
