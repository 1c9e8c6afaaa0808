"""`contract:` what a row must look like."""

import math
from datetime import UTC, date, datetime, time
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import SchemaError, SchemaValidator, core_schema

from etl_ml.spec.error import bounded
from etl_ml.spec.expression import Condition, InvalidRule, parse_rule
from etl_ml.spec.section import Section

ColumnType = Literal["integer", "float", "boolean", "string", "datetime", "date", "category"]
Scalar = bool | int | float | datetime | date | str

RESERVED = ("_etl_ml_", "_reasons")
NUMBERS: tuple[ColumnType, ...] = ("integer", "float")
TEXTS: tuple[ColumnType, ...] = ("string", "category")
MOMENTS: tuple[ColumnType, ...] = ("datetime", "date")
_PYTHON: dict[ColumnType, tuple[type, ...]] = {
    "integer": (int,),
    "float": (float,),
    "boolean": (bool,),
    "string": (str,),
    "category": (str,),
    "datetime": (datetime,),
    "date": (date,),
}
_LARGEST = 2**63


class Column(Section):
    """The rules of one column; a cell's first broken rule, in this order, is its reason."""

    type: ColumnType = Field(
        description="What a cell holds; casts to it are exact, or the row is quarantined."
    )
    nullable: bool = Field(True, description="Target and key columns are never null.")
    min: Scalar | None = Field(None, description="Smallest value allowed (numbers, dates).")
    max: Scalar | None = Field(None, description="Largest value allowed (numbers, dates).")
    allowed: tuple[Scalar, ...] | None = Field(None, description="The only values allowed.")
    pattern: str | None = Field(None, description="Regular expression, searched for; use ^ and $.")
    max_length: int | None = Field(None, ge=1, description="Longest text allowed, in characters.")
    unique: bool = Field(False, description="No two rows may share a value.")
    sensitive: bool = Field(
        False, description="Values appear in no report, log, metadata, card or sample row."
    )

    @model_validator(mode="before")
    @classmethod
    def _limits_are_of_the_type(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        kind = given.get("type")
        read = dict(given)
        for key in ("min", "max"):
            if key in read:
                read[key] = _limit(read[key], kind)
        if isinstance(read.get("allowed"), list | tuple):
            read["allowed"] = [_limit(value, kind) for value in read["allowed"]]
        return read

    @model_validator(mode="after")
    def _rules_can_hold(self) -> Self:
        for key, types in (("min", NUMBERS + MOMENTS), ("max", NUMBERS + MOMENTS)):
            limit = getattr(self, key)
            if limit is None:
                continue
            if self.type not in types:
                raise ValueError(f"`{key}` does not apply to a column of type {self.type}")
            self._of_type(key, limit)
        for key in ("pattern", "max_length"):
            if getattr(self, key) is not None and self.type not in TEXTS:
                raise ValueError(f"`{key}` does not apply to a column of type {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:  # type: ignore[operator]
            raise ValueError(f"`min` {self.min} is above `max` {self.max}: no value can hold")
        for value in self.allowed or ():
            self._of_type("allowed", value)
        if self.allowed is not None and not self.allowed:
            raise ValueError("`allowed` is empty: no value can hold")
        if self.pattern is not None:
            self._compiles(self.pattern)
        return self

    def _of_type(self, key: str, value: Scalar) -> None:
        if not _is_of(self.type, value):
            seen = "a value" if self.sensitive else bounded(value)
            raise ValueError(f"`{key}` holds {seen}, which is not of type {self.type}")

    @staticmethod
    def _compiles(pattern: str) -> None:
        try:
            # The engine that the rule will run on: linear in the text, so without look-around.
            SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
        except SchemaError as error:
            reason = str(error).strip().rpartition("error: ")[2]
            raise ValueError(f"`pattern` {bounded(pattern)} does not compile: {reason}") from None


def _limit(value: Any, kind: Any) -> Any:
    """A limit in its column's type where it can be; YAML as Dagster reads it has no dates."""
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < _LARGEST else value
    if kind not in MOMENTS:
        return value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        return value
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value.date() if kind == "date" and value.time() == time() else value


def _is_of(kind: ColumnType, value: Scalar) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int):
        return kind == "integer" and -_LARGEST <= value < _LARGEST
    if isinstance(value, float):
        return kind == "float" and math.isfinite(value)
    if isinstance(value, datetime):
        return kind == "datetime"
    return isinstance(value, _PYTHON[kind])


class Contract(Section):
    """The data contract: which columns there are, and what each row must keep."""

    unknown_columns: Literal["fail", "drop", "keep"] = Field(
        "fail", description="What to do with a column that the contract does not name."
    )
    primary_key: tuple[str, ...] = Field((), description="Columns that identify a row.")
    columns: dict[str, Column] = Field(min_length=1, description="Name and rules of each column.")
    rules: tuple[str, ...] = Field(
        (), description="What holds between columns: paid_at >= created_at. See docs/validation.md."
    )

    @model_validator(mode="after")
    def _names_are_usable(self) -> Self:
        seen: dict[str, str] = {}
        for name in self.columns:
            if not name or name != name.strip() or name.startswith(RESERVED):
                raise ValueError(f"column name {bounded(name)} is empty, padded or reserved")
            if name.lower() in seen:
                raise ValueError(f"columns {seen[name.lower()]!r} and {name!r} differ by case only")
            seen[name.lower()] = name
        for key in self.primary_key:
            if key not in self.columns:
                raise ValueError(f"primary_key names {key!r}, which is not under columns")
        if len(set(self.primary_key)) < len(self.primary_key):
            raise ValueError("primary_key names a column twice")
        return self

    @model_validator(mode="after")
    def _rules_can_be_asked(self) -> Self:
        types = {name: column.type for name, column in self.columns.items()}
        for place, rule in enumerate(self.rules):
            if rule in self.rules[:place]:
                raise ValueError(f"rule {bounded(rule, 100)} stands there twice")
            try:
                parse_rule(rule, types)
            except InvalidRule as error:
                raise ValueError(f"rule {bounded(rule, 100)}: {error}") from None
        return self

    def conditions(self) -> dict[str, Condition]:
        """The rules as they were written, and as they are read."""
        types = {name: column.type for name, column in self.columns.items()}
        return {rule: parse_rule(rule, types) for rule in self.rules}

    def sensitive(self) -> frozenset[str]:
        """Columns whose values may be shown nowhere."""
        return frozenset(name for name, column in self.columns.items() if column.sensitive)
