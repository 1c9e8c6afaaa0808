"""How a source is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from etl_ml.spec.error import EtlMlError, listed
from etl_ml.spec.source import public


class SourceError(EtlMlError):
    """A source that cannot be read, or that holds what cannot be a table."""


class SourceUnavailable(SourceError):
    """A source that does not answer now, and may do so later."""

    heals = True


def refuse(path: Path | str, problem: str, fix: str) -> NoReturn:
    """Raise a SourceError about a file that `source.path` names."""
    # The reader's own error shows the row, which may hold sensitive values.
    shown = public(path) if isinstance(path, str) else path
    raise SourceError(f"{shown}: {problem}.", where="source.path", fix=fix) from None


def refuse_empty(origin: Sequence[str], where: str) -> NoReturn:
    """Raise a SourceError about a source without any row."""
    raise SourceError(
        f"{listed(origin, 3)}: a header and no rows.",
        where=where,
        fix="put rows there, or point source at where they are",
    )
