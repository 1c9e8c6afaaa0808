"""JSON lines: one object a line; every value as text, objects and arrays as their JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from etl_ml.extract.compressed import damaged, open_stream
from etl_ml.extract.source_error import refuse
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 8 << 20


class JsonLinesFile:
    """One file of JSON lines. Numbers keep their digits: 64 bits are validation's question."""

    def __init__(self, path: Path) -> None:
        import polars as pl
        import pyarrow as pa

        self._path = path
        names: dict[str, None] = {}
        for line, block in self._blocks():
            try:
                frame = pl.read_ndjson(io.BytesIO(block), infer_schema_length=None)
            except pl.exceptions.PolarsError as error:
                self._explain(line, block, error)
            names.update(dict.fromkeys(frame.columns))
        self.schema = pa.schema([(name, pa.string()) for name in names])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        import polars as pl

        schema = dict.fromkeys(self.schema.names, pl.String)
        for line, block in self._blocks():
            try:
                frame = pl.read_ndjson(io.BytesIO(block), schema=schema)
            except pl.exceptions.PolarsError as error:
                self._explain(line, block, error)
            yield from frame.to_arrow().cast(self.schema).to_batches()

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines, some megabytes at a time, each with the number of its first line."""
        line = 1
        try:
            with open_stream(self._path) as stream:
                rest = b""
                while data := stream.read(_BLOCK):
                    block, newline, rest = (rest + data).rpartition(b"\n")
                    if newline:
                        yield line, block + newline
                        line += block.count(b"\n") + 1
                if rest.strip():
                    yield line, rest
        except OSError as error:
            damaged(self._path, error)

    def _explain(self, line: int, block: bytes, error: Exception) -> NoReturn:
        for number, text in enumerate(block.split(b"\n"), start=line):
            try:
                value = json.loads(text) if text.strip() else {}
            except UnicodeDecodeError as bad:
                refuse(
                    self._path, f"line {number}: not UTF-8 at byte {bad.start}", "save it as UTF-8"
                )
            except ValueError as bad:
                refuse(self._path, f"line {number}: not JSON: {bad}", "mend or remove the line")
            if not isinstance(value, dict):
                refuse(
                    self._path,
                    f"line {number}: {bounded(value, 40)} is not an object",
                    "write one JSON object a line",
                )
        refuse(self._path, f"from line {line}: {error}", "look at the file, or set source.format")
