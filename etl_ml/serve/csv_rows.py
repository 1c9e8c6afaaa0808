"""Rows in CSV (RFC 4180, UTF-8), with or without a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from etl_ml.serve.refused import Refused
from etl_ml.serve.rows import Rows, bounded_count, unreadable


def read_csv(body: bytes, inputs: Sequence[str], most: int, header: bool | None = None) -> Rows:
    """The rows in a body, every cell as text.

    Parameters
    ----------
    inputs : the model's columns in order: what the cells of a body without a header are
    header : whether the first line names the columns, as RFC 4180's media type parameter says;
        None where it is silent, and a line that holds a column's name is a header

    Raises
    ------
    Refused
        It is no UTF-8 or no CSV, a row is longer or shorter than others, or there are too many.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(f"the body is no UTF-8: byte {error.start}.", "text in UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines: Iterator[list[str]] = filter(None, reader)
        names, lines = _names(lines, inputs, header)
        cells = list(islice(_checked(lines, len(names)), most + 1))
    except csv.Error as error:
        raise unreadable(f"the body is no CSV: line {reader.line_num}: {error}.", "CSV") from None
    if len(cells) > most:
        raise Refused(
            f"there are more than {most:,} rows.",
            reason="too_many_rows",
            expected=f"up to {most:,} rows a request",
        )
    count = bounded_count(len(cells), most)
    columns = map(list, zip(*cells, strict=True))
    return Rows(dict(zip(names, columns, strict=True)), count, text=True)


def _names(
    lines: Iterator[list[str]], inputs: Sequence[str], header: bool | None
) -> tuple[list[str], Iterator[list[str]]]:
    first = next(lines, None)
    if first is None:
        return list(inputs), lines
    names = [name.strip() for name in first]
    if header is False or (header is None and set(names).isdisjoint(inputs)):
        if len(first) != len(inputs):
            raise unreadable(
                f"the first line holds no column's name, and {len(first)} cells.",
                f"a header, or the {len(inputs)} columns of the model in their order",
            )
        return list(inputs), chain([first], lines)
    if len(set(names)) < len(names):
        raise unreadable("the header names a column twice.", "each column once")
    return names, lines


def _checked(lines: Iterator[list[str]], width: int) -> Iterator[list[str]]:
    for place, line in enumerate(lines):
        if len(line) != width:
            raise unreadable(f"row {place} has {len(line)} cells.", f"{width} cells a row", place)
        yield line
