"""How a source is refused."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from etl_ml.spec.error import EtlMlError


class SourceError(EtlMlError):
    """A source that cannot be read, or that holds what cannot be a table."""


def refuse(path: Path, problem: str, fix: str) -> NoReturn:
    """Raise a SourceError about a file that `source.path` names."""
    # The reader's own error shows the row, which may hold sensitive values.
    raise SourceError(f"{path}: {problem}.", where="source.path", fix=fix) from None
