"""The dagster-pandas type of a contract, for assets that take a pandas frame."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster._utils.warnings import suppress_dagster_warnings

from etl_ml.spec.contract import TEXTS, Column, Contract


@suppress_dagster_warnings
def dataframe_type(contract: Contract) -> dg.DagsterType:
    """A DataFrame type that keeps the contract's types, nulls, ranges and allowed values."""
    from dagster_pandas import create_dagster_pandas_dataframe_type

    columns = [_column(name, column) for name, column in contract.columns.items()]
    kind: dg.DagsterType = create_dagster_pandas_dataframe_type("ValidatedData", columns=columns)
    return kind


def _column(name: str, column: Column) -> Any:
    from dagster_pandas import PandasColumn
    from dagster_pandas.constraints import ColumnDTypeInSetConstraint, NonNullableColumnConstraint

    rules: dict[str, Any] = {"non_nullable": not column.nullable, "is_required": True}
    if column.allowed is not None and column.type in TEXTS:
        return PandasColumn.categorical_column(name, set(column.allowed), **rules)
    limits = {"min_value": column.min, "max_value": column.max}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    if column.type == "float":
        return PandasColumn.float_column(name, **limits, **rules)
    if column.type == "integer" and not column.nullable:
        return PandasColumn.integer_column(name, **limits, **rules)
    if column.type in TEXTS:
        return PandasColumn.string_column(name, **rules)
    # pandas keeps nullable integers as floats, nullable booleans and dates as objects.
    dtypes = {
        "integer": {"int64", "float64"},
        "boolean": {"bool", "object"},
        "date": {"object", "datetime64[ms]", "datetime64[us]"},
        "datetime": {"datetime64[us, UTC]"},
    }[column.type]
    constraints: list[Any] = [ColumnDTypeInSetConstraint(dtypes)]
    if not column.nullable:
        constraints.append(NonNullableColumnConstraint())
    return PandasColumn(name, constraints=constraints, is_required=True)
