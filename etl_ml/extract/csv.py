"""CSV (RFC 4180, UTF-8): every cell as text, every row as long as the header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from etl_ml.extract.compressed import damaged, open_stream
from etl_ml.extract.source_error import refuse

if TYPE_CHECKING:
    from _csv import Reader as _Reader

    import pyarrow as pa

_BLOCK = 8 << 20


class CsvFile:
    """One CSV file. Arrow reads it: unlike most readers it refuses a row that is too short."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path = path
        self._has_rows = False
        self.schema = pa.schema([(name, pa.string()) for name in self._header()])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        if not self._has_rows:
            return
        last: pa.Table | None = None
        try:
            for number, block in enumerate(self._blocks()):
                table = self._parsed(block, first=number == 0)
                if table.num_rows:
                    last = table if b'"' in block else None
                    yield from table.to_batches()
            if last is not None:
                self._ends(last)
        except pa.ArrowInvalid as error:
            self._explain(error)
        except OSError as error:
            damaged(self._path, error)

    def _blocks(self) -> Iterator[bytes]:
        """Whole rows, some megabytes at a time; the first begins with the header."""
        rest, newline, inside = b"", b"", False
        with open_stream(self._path) as stream:
            while data := stream.read(_BLOCK):
                newline = newline or (b"\n" if b"\n" in data else b"\r")
                cut = data.rfind(newline) + 1
                # Within a cell the number of quotes so far is odd: a quote in it is doubled.
                inside ^= data.count(b'"', 0, cut) % 2 == 1
                if not cut or inside:
                    inside ^= data.count(b'"', cut) % 2 == 1
                    rest += data
                    continue
                yield rest + data[:cut] if rest else data[:cut]
                rest = data[cut:]
                inside = rest.count(b'"') % 2 == 1
            if rest.strip():
                yield rest

    def _parsed(self, block: bytes, first: bool) -> pa.Table:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        if not first and not block.strip():
            return self.schema.empty_table()
        return arrow_csv.read_csv(
            pa.py_buffer(block),
            read_options=arrow_csv.ReadOptions(
                block_size=2 << 20,  # parsed side by side
                column_names=self.schema.names,
                skip_rows_after_names=1 if first else 0,
            ),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=b'"' in block),
            convert_options=arrow_csv.ConvertOptions(
                column_types=self.schema, strings_can_be_null=False
            ),
        )

    def _header(self) -> list[str]:
        try:
            with self._rows() as rows:
                header = next(rows, None)
                self._has_rows = any(rows)
        except UnicodeDecodeError:
            self._explain(None)
        except OSError as error:
            damaged(self._path, error)
        except csv.Error as error:
            refuse(self._path, f"not a CSV file: {error}", "look at the file, or set source.format")
        if not header:
            refuse(self._path, "the first line is blank", "begin the file with its column names")
        return header

    @contextmanager
    def _rows(self) -> Iterator[_Reader]:
        limit = csv.field_size_limit(_BLOCK)
        try:
            with io.TextIOWrapper(
                open_stream(self._path), encoding="utf-8-sig", newline=""
            ) as text:
                yield csv.reader(text)
        finally:
            csv.field_size_limit(limit)

    def _ends(self, last: pa.Table) -> None:
        """Refuse a quote that is never closed: Arrow takes all that follows for one cell."""
        cell = last.column(last.num_columns - 1)[last.num_rows - 1].as_py()
        if "\n" not in cell and "\r" not in cell:
            return
        tail = b""
        with open_stream(self._path) as stream:
            while data := stream.read(_BLOCK):
                tail = (tail + data)[-4:]
        if tail.removesuffix(b"\n").removesuffix(b"\r").endswith(b'"'):
            return
        line = start = 1
        with self._rows() as rows:
            for _ in rows:
                line, start = start, rows.line_num + 1
        refuse(self._path, f"line {line}: a quote is never closed", 'close it, or double it: ""')

    def _explain(self, error: Exception | None) -> NoReturn:
        """Find the line: Arrow counts rows, and a quoted cell may span several lines."""
        line = offset = 0
        with open_stream(self._path) as stream:
            for line, text in enumerate(io.BufferedReader(stream), start=1):
                try:
                    text.decode()
                except UnicodeDecodeError as bad:
                    refuse(
                        self._path,
                        f"line {line}, byte {offset + bad.start}: not UTF-8 "
                        f"(0x{text[bad.start]:02x})",
                        "save the file as UTF-8",
                    )
                offset += len(text)
        width = len(self.schema) if hasattr(self, "schema") else 0
        with self._rows() as rows:
            start = 1
            for row in rows:
                if row and len(row) != width:
                    refuse(
                        self._path,
                        f"line {start}: {len(row)} cells, the header has {width}",
                        "complete the row, or quote a cell that holds a comma or a line break",
                    )
                start = rows.line_num + 1
        refuse(self._path, f"not a CSV file: {error}", "look at the file, or set source.format")
