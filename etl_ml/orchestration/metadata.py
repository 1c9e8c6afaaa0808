"""What Dagster's UI shows of an asset."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import dagster as dg

from etl_ml.spec.contract import Column
from etl_ml.spec.pipeline import Pipeline

_SHOWN = 20


def column_schema(pipeline: Pipeline) -> dg.TableSchema:
    """The contract as Dagster's column schema."""
    required = pipeline.required()
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                type=column.type,
                description=_role(name, pipeline),
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable and name not in required,
                    unique=column.unique or pipeline.contract.primary_key == (name,),
                    other=_constraints(column),
                ),
            )
            for name, column in pipeline.contract.columns.items()
        ]
    )


def column_lineage(pipeline: Pipeline, upstream: str) -> dg.TableColumnLineage:
    """Each contracted column comes from the column of its name upstream."""
    key = dg.AssetKey([pipeline.name, upstream])
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(asset_key=key, column_name=name)]
            for name in pipeline.contract.columns
        }
    )


def validation_metadata(report: Mapping[str, Any], drift: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers that plot over time."""
    effects = [test["effect"] for test in drift["columns"].values()]
    share = report["quarantined_rows"] / max(report["rows"], 1)
    return {
        "rows_read": report["rows"],
        "quarantined_rows": report["quarantined_rows"],
        "superseded_rows": report["superseded_rows"],
        "quarantined_share": share,
        "drift_effect": max(effects, default=0.0),
    }


def leaderboard_metadata(leaderboard: list[dict[str, Any]]) -> dict[str, Any]:
    """The leaderboard as a table, the winner's score and the time that all of it took."""
    records = [
        dg.TableRecord(
            {
                "candidate": entry["candidate"],
                "params": ", ".join(f"{k}={v}" for k, v in entry["params"].items()),
                "metric": entry["metric"],
                "mean": _rounded(entry["mean"]),
                "std": _rounded(entry["std"]),
                "fit_seconds": entry["fit_seconds"],
            }
        )
        for entry in leaderboard[:_SHOWN]
    ]
    winner = leaderboard[0]
    return {
        "leaderboard": dg.MetadataValue.table(records),
        "winner": winner["candidate"],
        f"cross_validated_{winner['metric']}": winner["mean"],
        "fit_seconds": sum(entry["fit_seconds"] for entry in leaderboard),
    }


def evaluation_metadata(
    report: Mapping[str, Any], card: str, pictures: Mapping[str, bytes]
) -> dict[str, Any]:
    """Verdict, test metrics, model card, and the two pictures that tell most."""
    shown: dict[str, Any] = {
        "deployable": report["deployable"],
        **{name: found["value"] for name, found in report["metrics"]["test"].items()},
        "overfit": report["overfit"]["difference"],
        "model_card": dg.MetadataValue.md(card),
    }
    for name in ("roc", "confusion_matrix", "predicted", "residuals"):
        if f"{name}.png" in pictures:
            shown[name] = _picture(name.replace("_", " "), pictures[f"{name}.png"])
    if report["slices"]:
        shown["slices"] = _slices_table(report)
    if report["reasons"]:
        shown["reasons"] = dg.MetadataValue.md("\n".join(f"- {r}" for r in report["reasons"]))
    return {name: value for name, value in shown.items() if value == value}  # no NaN


def _slices_table(report: Mapping[str, Any]) -> dg.TableMetadataValue:
    """The training metric of each slice, with its rows and its gates."""
    metric = report["overfit"]["metric"]
    records = []
    for column, values in report["slices"].items():
        for value, found in values.items():
            measured = found["metrics"][metric]
            missed = [name for name, gate in found["gates"].items() if gate["passed"] is False]
            low, high = (_rounded(measured[end]) for end in ("low", "high"))
            record = {"column": column, "value": value, "rows": found["rows"]}
            record |= {metric: _rounded(measured["value"]), "low": low, "high": high}
            records.append(dg.TableRecord(record | {"misses": ", ".join(missed)}))
    return dg.MetadataValue.table(records)


def _picture(name: str, png: bytes) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _role(name: str, pipeline: Pipeline) -> str | None:
    if name == pipeline.target.column:
        return "target"
    if name in pipeline.contract.primary_key:
        return "key"
    return "dropped before training" if name in pipeline.cleaning.drop_columns else "feature"


def _constraints(column: Column) -> list[str]:
    if column.sensitive:
        return ["sensitive"]
    limits = {
        "min": column.min,
        "max": column.max,
        "allowed": None if column.allowed is None else ", ".join(map(str, column.allowed)),
        "pattern": column.pattern,
        "max_length": column.max_length,
    }
    return [f"{name}: {value}" for name, value in limits.items() if value is not None]
