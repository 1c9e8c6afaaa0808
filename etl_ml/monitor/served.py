"""Rows as a service was asked about them, counted where the model's own rows were counted."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from etl_ml.deploy.signature import inputs_of
from etl_ml.spec.contract import NUMBERS, Column
from etl_ml.validate.casting import cast, polars_type, present
from etl_ml.validate.distribution import distance, places
from etl_ml.validate.statistics import variation

if TYPE_CHECKING:
    from etl_ml.deploy import Package

Array = np.ndarray[Any, Any]

# Cells as JSON has them, of the types that drift is looked for in.
_NATIVE = {"integer": pl.Float64, "float": pl.Float64, "boolean": pl.Boolean}


@dataclass(frozen=True)
class Part:
    """Rows of one request.

    Attributes
    ----------
    columns : cells by name, each of its contract: what JSON has, text, or a Polars series
    rows : how many
    text : cells are text that stands for values, as in CSV
    """

    columns: Mapping[str, Any]
    rows: int
    text: bool = False


@dataclass
class Counts:
    """How many rows there were, and where their values lie; counts of parts add up.

    Attributes
    ----------
    nulls : by column
    values : by column that the model knows the distribution of: how many at each of its `places`,
        or of each of its levels and, last, of all others
    """

    rows: int
    nulls: dict[str, int]
    values: dict[str, Array]

    def add(self, other: Counts) -> None:
        """Take the rows of another part into account."""
        self.rows += other.rows
        for name, nulls in other.nulls.items():
            self.nulls[name] += nulls
        for name, found in other.values.items():
            self.values[name] += found


@dataclass(frozen=True)
class Effect:
    """How far a column is from where the model's rows came from, each from 0 to 1.

    Attributes
    ----------
    values : as in `drift_report.json`: Kolmogorov-Smirnov distance or total variation; None of a
        column whose distribution the package does not have
    nulls : of the share of nulls
    """

    values: float | None
    nulls: float


class Reference:
    """What a package knows of the rows that its model descends from.

    Attributes
    ----------
    columns : the model's inputs
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        profile: Mapping[str, Any],
        null_values: Collection[str] = (),
    ) -> None:
        self.columns = dict(columns)
        self._null_values = null_values
        known = profile["columns"]
        self._nulls = {n: (known[n]["nulls"], known[n]["count"]) for n in columns if n in known}
        self._known: dict[str, Mapping[str, Any]] = {
            name: known[name]["distribution"]
            for name, column in columns.items()
            if not column.sensitive and known.get(name, {}).get("distribution")
        }
        self._points = {
            name: np.asarray(found["values"], np.float64)
            for name, found in self._known.items()
            if columns[name].type in NUMBERS
        }

    @staticmethod
    def of(package: Package) -> Reference:
        """The package's own."""
        signature = json.loads(package.read("signature.json"))
        profile = json.loads(package.read("profile.json"))
        return Reference(inputs_of(signature), profile, signature["null_values"])

    def nothing(self) -> Counts:
        """Counts of no rows."""
        values = {}
        for name, found in self._known.items():
            places = 2 * len(found["values"]) if name in self._points else len(found["levels"])
            values[name] = np.zeros(places + 1, np.int64)
        return Counts(0, dict.fromkeys(self.columns, 0), values)

    def count(self, parts: Iterable[Part]) -> Counts:
        """Counts of the rows of some requests, which are taken together as far as can be."""
        counts = self.nothing()
        alike: dict[bool, list[Part]] = {False: [], True: []}
        for part in parts:
            if any(isinstance(cells, pl.Series) for cells in part.columns.values()):
                self._count(counts, part.columns, part.rows, part.text)
            else:
                alike[part.text].append(part)
        for text, several in alike.items():
            if several:
                columns = {
                    name: list(chain.from_iterable(part.columns[name] for part in several))
                    for name in self.columns
                }
                self._count(counts, columns, sum(part.rows for part in several), text)
        return counts

    def effects(self, counts: Counts) -> dict[str, Effect]:
        """The effect of each column; meaningless for a handful of rows."""
        found = {}
        for name in self.columns:
            values = None
            if name in self._points:
                values = distance(self._known[name], counts.values[name])
            elif name in self._known:
                known = [*self._known[name]["counts"], self._known[name]["others"]]
                values = variation(known, counts.values[name].tolist())
            nulls = counts.nulls[name]
            missing = variation(self._nulls[name], (nulls, counts.rows - nulls))
            found[name] = Effect(values, missing)
        return found

    def _count(self, counts: Counts, columns: Mapping[str, Any], rows: int, text: bool) -> None:
        typed = self._typed(columns, text)
        counts.rows += rows
        for name in self.columns:
            values = typed[name]
            counts.nulls[name] += values.null_count()
            if name not in self._known:
                continue
            there = counts.values[name]
            if name in self._points:
                numbers = values.drop_nulls().to_numpy()
                there += np.bincount(places(self._points[name], numbers), minlength=len(there))
                continue
            place = {level: at for at, level in enumerate(self._known[name]["levels"])}
            counted = values.drop_nulls().alias("level").value_counts(name="rows")
            for level, times in counted.iter_rows():
                there[place.get(level, len(place))] += times

    def _typed(self, columns: Mapping[str, Any], text: bool) -> pl.DataFrame:
        """Float64, text or boolean; of what is only counted, anything that has the nulls."""
        raw = pl.DataFrame([_series(n, columns[n], c, text) for n, c in self.columns.items()])
        expressions = []
        for name, column in self.columns.items():
            source = raw.schema[name]
            content, _ = present(pl.col(name), source, self._null_values)
            if name in self._known:
                content = cast(content, source, column).cast(polars_type(column.type))
                if column.type in NUMBERS:
                    content = content.cast(pl.Float64)
            expressions.append(content.alias(name))
        return raw.select(expressions)


def _series(name: str, cells: Any, column: Column, text: bool) -> pl.Series:
    if isinstance(cells, pl.Series):
        named = cells.alias(name)
        return named.cast(pl.String) if cells.dtype in (pl.Categorical, pl.Enum) else named
    if column.type == "boolean" and not text:  # databases have them as 0 and 1
        cells = [None if cell is None else bool(cell) for cell in cells]
    kind = pl.String if text else _NATIVE.get(column.type, pl.String)
    return pl.Series(name, cells, kind, strict=False)
