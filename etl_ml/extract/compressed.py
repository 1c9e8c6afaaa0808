"""Streams of bytes from plain, gzip and zstd files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from etl_ml.extract.source_error import refuse

if TYPE_CHECKING:
    import pyarrow as pa


_KINDS = {".gz": "gzip", ".zst": "zstd"}


def compression_of(path: Path) -> str | None:
    """`gzip`, `zstd` or None, by the file's name."""
    return _KINDS.get(path.suffix.lower())


def open_stream(path: Path) -> pa.NativeFile:
    """The file's content, decompressed as it is read."""
    import pyarrow as pa

    return pa.input_stream(str(path), compression=compression_of(path))


def damaged(path: Path, error: OSError) -> NoReturn:
    """Say what a failed read means for the file.

    Raises
    ------
    SourceError
        Always; the original error is left as it is when the file is not a compressed one.
    """
    kind = compression_of(path)
    if kind is None:
        raise error
    size = path.stat().st_size
    if "runcated" in str(error):
        refuse(
            path, f"byte {size}: the {kind} stream ends too early", "copy or write the file again"
        )
    refuse(path, f"not a sound {kind} file of {size} bytes ({error})", "copy or write it again")
