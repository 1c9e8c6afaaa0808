"""What a package says of its model: inputs, output and sample answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etl_ml.spec.contract import Column
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import polars as pl

    from etl_ml.train.model import Model

_SAMPLE = 20
_RANGES = ("min", "max", "allowed", "pattern", "max_length")


def signature(pipeline: Pipeline, model: Model, rows: pl.DataFrame, answers: Any) -> dict[str, Any]:
    """What `signature.json` holds: inputs, output, and sample rows with their expected answers.

    `key` is what a row is known by, and `null_values` are the texts that mean null. Where a feature
    is sensitive there is no sample: its values are shown nowhere.
    """
    features = pipeline.features_of()
    target = pipeline.target
    sample: dict[str, Any] | None = None
    if not any(column.sensitive for column in features.values()):
        shown = rows.select(list(features)).head(_SAMPLE)
        said = "probabilities" if model.classes else "predictions"
        sample = {"rows": shown.to_dicts(), said: answers[: len(shown)]}
    return {
        "inputs": [_input(name, column) for name, column in features.items()],
        "key": list(pipeline.row_key()),
        "null_values": list(pipeline.source.null_values),
        # Columns of the contract that no model sees: whoever sends them is not mistaken.
        "ignored": [name for name in pipeline.contract.columns if name not in features],
        "output": {
            "column": target.column,
            "task": target.task,
            "classes": list(model.classes),
            "threshold": model.threshold if len(model.classes) == 2 else None,
        },
        "sample": sample,
    }


def _input(name: str, column: Column) -> dict[str, Any]:
    limits = {key: getattr(column, key) for key in _RANGES}
    return {
        "name": name,
        "type": column.type,
        "nullable": column.nullable,
        **{key: limit for key, limit in limits.items() if limit is not None},
        **({"sensitive": True} if column.sensitive else {}),
    }


def inputs_of(document: Mapping[str, Any]) -> dict[str, Column]:
    """The feature columns that a `signature.json` names, as the contract had them."""
    return {
        entry["name"]: Column(**{k: v for k, v in entry.items() if k != "name"})
        for entry in document["inputs"]
    }
