"""Rows as a request brings them: cells by column, not yet checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from etl_ml.serve.refused import BAD_REQUEST, Refused
from etl_ml.spec.contract import RESERVED
from etl_ml.spec.error import bounded, listed, nearest

if TYPE_CHECKING:
    from etl_ml.serve.signature import Signature

Cells = "Sequence[Any] | pl.Series"

# What pandas calls an index that it writes as a column: to JSON, to CSV, to Parquet.
_INDEX = ("index", "level_0", "Unnamed: 0", "__index_level_0__", "")


@dataclass(frozen=True)
class Rows:
    """n rows by column.

    Attributes
    ----------
    columns : n cells by name: what JSON has (None, bool, int, float, str), or a Polars series
    count : n
    text : whether cells are text that stands for values, as in CSV
    """

    columns: Mapping[str, Any]
    count: int
    text: bool = False


def choose(rows: Rows, signature: Signature, unknown: Literal["fail", "drop"]) -> Rows:
    """The model's inputs, in its order.

    Parameters
    ----------
    unknown : whether a column that neither the model nor its contract knows is refused

    Raises
    ------
    Refused
        A column is missing, or unknown; says which, and the nearest.
    """
    given, inputs = rows.columns, signature.inputs
    if given.keys() == inputs.keys():
        return rows
    others = [n for n in given if n not in inputs and not _is_expected(n, signature)]
    for name in inputs:
        if name not in given:
            raise missing(name, others)
    if others and unknown == "fail":
        close = nearest(others[0], inputs)
        raise Refused(
            f"{listed(map(bounded, others), 3)} "
            f"{'is no column' if len(others) == 1 else 'are no columns'} of the model.",
            reason="unknown_column",
            column=others[0][:80],
            expected=f"the columns {listed(inputs)}",
            close=close,
        )
    return Rows({name: given[name] for name in inputs}, rows.count, rows.text)


def missing(name: str, others: Sequence[str], row: int | None = None) -> Refused:
    """A column of the model that is not there; `others` are those that should not be."""
    close = nearest(name, others)
    where = "" if row is None else f"row {row}, "
    return Refused(
        f"{where}column {name!r} is missing; give null where a value is unknown.",
        reason="missing_column",
        row=row,
        column=name,
        expected=f"a column {name!r}",
        close=None if close is None else close[:80],
    )


def bounded_count(count: int, most: int) -> int:
    """The number of rows, if it is one that is answered."""
    if count == 0:
        raise Refused("there are no rows.", reason="no_rows", expected="one row or more")
    if count > most:
        raise Refused(
            f"{count:,} rows are more than are answered at once.",
            reason="too_many_rows",
            expected=f"up to {most:,} rows a request",
        )
    return count


def unreadable(what: str, expected: str, row: int | None = None) -> Refused:
    """A body that is not in the format that it says."""
    return Refused(what, status=BAD_REQUEST, reason="malformed", row=row, expected=expected)


def _is_expected(name: str, signature: Signature) -> bool:
    return name in signature.ignored or name in _INDEX or name.startswith(RESERVED)
