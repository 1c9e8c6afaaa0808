"""How a source is refused."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from etl_ml.spec.error import EtlMlError
from etl_ml.spec.source import public


class SourceError(EtlMlError):
    """A source that cannot be read, or that holds what cannot be a table."""


def refuse(path: Path | str, problem: str, fix: str) -> NoReturn:
    """Raise a SourceError about a file that `source.path` names."""
    # The reader's own error shows the row, which may hold sensitive values.
    shown = public(path) if isinstance(path, str) else path
    raise SourceError(f"{shown}: {problem}.", where="source.path", fix=fix) from None
