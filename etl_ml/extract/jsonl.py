"""JSON lines: one object a line; every value as text, objects and arrays as their JSON."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.compressed import damaged, open_stream
from etl_ml.extract.source_error import refuse
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 8 << 20


class JsonLinesFile:
    """One file of JSON lines. Integers keep all digits: 64 bits are validation's question."""

    def __init__(self, path: Path) -> None:
        import polars as pl
        import pyarrow as pa

        self._path = path
        names: dict[str, None] = {}
        for line, block in self._blocks():
            try:
                frame = pl.read_ndjson(io.BytesIO(block), infer_schema_length=None)
                names.update(dict.fromkeys(frame.columns))
            except pl.exceptions.PolarsError:
                # An invalid line, or objects and arrays that have no type in common.
                for _, _, found in self._objects(line, block):
                    names.update(dict.fromkeys(found))
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
                    if line == 1 and not rest:
                        data = data.removeprefix(codecs.BOM_UTF8)
                    block, newline, rest = (rest + data).rpartition(b"\n")
                    if newline:
                        yield line, block + newline
                        line += block.count(b"\n") + 1
                if rest.strip():
                    yield line, rest
        except OSError as error:
            damaged(self._path, error)

    def _objects(self, line: int, block: bytes) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
        """Every line's number, text and object; the first that is no object is refused."""
        for number, text in enumerate(block.split(b"\n"), start=line):
            if not text.strip():
                continue
            try:
                value = json.loads(text.decode(), parse_constant=_no_constant)
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
            yield number, text, value

    def _explain(self, line: int, block: bytes, error: Exception) -> NoReturn:
        import polars as pl

        schema = dict.fromkeys(self.schema.names, pl.String)
        for number, text, _ in self._objects(line, block):
            try:
                pl.read_ndjson(io.BytesIO(text), schema=schema)
            except pl.exceptions.PolarsError as bad:
                refuse(self._path, f"line {number}: {bad}", "mend or remove the line")
        refuse(self._path, f"from line {line}: {error}", "look at the file, or set source.format")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
