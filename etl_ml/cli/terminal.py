"""How results reach the terminal: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl_ml.lake.documents import dump_json

_LEAST_WIDTH = 100


def console() -> Console:
    """The terminal; a pipe gets plain text of a fixed width, so that no table is cut."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=_LEAST_WIDTH, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A line on a terminal's standard error that says what is done now; nothing in a pipe."""
    shown_on = Console(stderr=True, highlight=False)
    if not shown_on.is_terminal:
        yield lambda line: None
        return
    with shown_on.status("") as status:
        yield lambda line: status.update(Text(line, overflow="ellipsis", no_wrap=True))


def print_json(value: Any) -> None:
    """A document on standard output, and nothing else."""
    sys.stdout.write(dump_json(value).decode())


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose numbers stand at the right."""
    filled = [list(row) for row in rows]
    made = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        numbers = all(isinstance(row[place], int | float) or row[place] is None for row in filled)
        made.add_column(column, justify="right" if numbers and filled else "left", style=None)
    for row in filled:
        made.add_row(*(Text(shown(cell)) for cell in row))
    return made


def shown(value: object) -> str:
    """A cell as text: floats to four digits, nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:,.4f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )
