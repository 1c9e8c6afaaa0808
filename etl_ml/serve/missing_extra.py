"""A library of the `serve` extra that is not there is named with what installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from etl_ml.spec.error import EtlMlError


class MissingExtra(EtlMlError):
    """A library that is not installed."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around an import.

    Raises
    ------
    MissingExtra
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "etl_ml":
            raise
        raise MissingExtra(
            f"the scoring service needs {error.name}, which is not installed.",
            fix=f"pip install 'etl_ml[{extra}]'",
        ) from error
