"""The contract's rules as Narwhals expressions: the same on every dataframe engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl_ml.spec.contract import Column

if TYPE_CHECKING:
    import narwhals as nw

ORDER = ("type", "nullable", "min", "max", "allowed", "pattern", "max_length", "unique")

UNKNOWN_COLUMNS = "unknown_columns"


@dataclass(frozen=True)
class Rule:
    """A rule of one column, or of the row: `column` is None, and the name is the rule as written.

    Attributes
    ----------
    broken : true where a cell breaks the rule, and none before it in `ORDER`
    breaks : true or null where a cell breaks the rule; None where the source's type cannot
    """

    column: str | None
    name: str
    broken: nw.Expr
    breaks: nw.Expr | None

    @property
    def reason(self) -> str:
        return f"{'rules' if self.column is None else self.column}: {self.name}"

    @property
    def flag(self) -> str:
        """The boolean column that holds the rule's outcome while rows are validated."""
        return f"_etl_ml_broken {self.reason}"


def rules_of(
    name: str,
    column: Column,
    *,
    value: str,
    present: str,
    required: bool,
    repeated: str | None,
    casts: bool = False,
) -> Iterator[Rule]:
    """A column's rules; a cell breaks at most one, the first in `ORDER`.

    Parameters
    ----------
    value : the column that holds the cast values
    present : the boolean column that tells whether the source had a value
    required : whether null is a broken rule
    repeated : the boolean column that tells whether the value stands in other rows too, if asked
    casts : whether no value can fail its cast
    """
    import narwhals as nw

    cast, there = nw.col(value), nw.col(present)
    broken = {"type": there & cast.is_null()}
    if required:
        broken["nullable"] = ~there
    if column.min is not None:
        broken["min"] = cast < nw.lit(column.min)
    if column.max is not None:
        broken["max"] = cast > nw.lit(column.max)
    if column.allowed is not None:
        broken["allowed"] = ~cast.is_null() & ~cast.is_in(list(column.allowed))
    if column.pattern is not None:
        broken["pattern"] = ~cast.str.contains(column.pattern)
    if column.max_length is not None:
        broken["max_length"] = cast.str.len_chars() > column.max_length
    if repeated is not None:
        broken["unique"] = nw.col(repeated)
    earlier: nw.Expr | None = None
    for rule in ORDER:
        if rule in broken:
            outcome = broken[rule].fill_null(False)
            first = outcome if earlier is None else outcome & ~earlier
            never = rule == "type" and casts
            yield Rule(name, rule, first, None if never else broken[rule])
            earlier = outcome if earlier is None else earlier | outcome
