"""Files to extract, and what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from etl_ml.extract import SourceError, extract
from etl_ml.spec.source import FileSource


def read(base: Path, path: str, key: tuple[str, ...] = (), **source: Any) -> pl.DataFrame:
    """Everything that `extract` reads."""
    found = extract(FileSource(type="file", path=path, **source), base=base, primary_key=key)
    table = pa.Table.from_batches(list(found.rows), found.rows.schema)
    frame = pl.DataFrame(table)
    assert frame.columns == [*found.columns, "_etl_ml_row", "_etl_ml_original"]
    assert frame["_etl_ml_original"].null_count() == frame.height
    assert frame["_etl_ml_row"].n_unique() == frame.height
    return frame


def cells(base: Path, path: str, **source: Any) -> list[dict[str, Any]]:
    return read(base, path, **source).drop("_etl_ml_row", "_etl_ml_original").to_dicts()


def refusal(base: Path, path: str, **source: Any) -> str:
    """The message of the refusal, which names the file and says what to do."""
    with pytest.raises(SourceError) as caught:
        read(base, path, **source)
    assert caught.value.where == "source.path"
    assert caught.value.fix
    assert str(base) in caught.value.what
    return caught.value.what


def zstd(path: Path, data: bytes) -> None:
    with pa.output_stream(str(path), compression="zstd") as sink:
        sink.write(data)
