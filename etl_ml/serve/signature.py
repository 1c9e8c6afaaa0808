"""What a package's model takes and gives, as its `signature.json` says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etl_ml.deploy.signature import inputs_of
from etl_ml.spec.contract import Column


@dataclass(frozen=True)
class Signature:
    """Inputs and output of a model.

    Attributes
    ----------
    inputs : the rules of each column, in the model's order
    null_values : texts that mean null
    ignored : columns of the contract, the target among them, that may come along
    target : the column that is predicted
    task : classification | regression
    classes : the labels in order, empty for numbers; of two, the positive one is last
    threshold : of two classes, the positive one is predicted from here on
    sample : rows, and the answers that training gave; None where a column is sensitive
    """

    inputs: Mapping[str, Column]
    null_values: frozenset[str]
    ignored: frozenset[str]
    target: str
    task: str
    classes: tuple[Any, ...]
    threshold: float
    sample: Sample | None

    def shown(self) -> dict[str, Any]:
        """What a client is told; of a sensitive column no limit that is a value."""
        return {
            "inputs": [{"name": name, **_shown(column)} for name, column in self.inputs.items()],
            "output": {
                "column": self.target,
                "task": self.task,
                "classes": list(self.classes),
                "threshold": self.threshold if len(self.classes) == 2 else None,
            },
        }


@dataclass(frozen=True)
class Sample:
    """Rows as JSON has them, and the answers to them: probabilities by row, or numbers."""

    rows: list[dict[str, Any]]
    answers: list[Any]


def read_signature(data: bytes) -> Signature:
    """Parse `signature.json`.

    Raises
    ------
    ValueError
        It is none; says how.
    """
    try:
        document = json.loads(data)
        output, sample = document["output"], document["sample"]
        classes = tuple(output["classes"])
        inputs = inputs_of(document)
        if len(inputs) != len(document["inputs"]) or not inputs:
            raise ValueError("its inputs are not columns with a name each")
        said = "probabilities" if classes else "predictions"
        return Signature(
            inputs=inputs,
            null_values=frozenset(document["null_values"]),
            ignored=frozenset(document["ignored"]),
            target=str(output["column"]),
            task=str(output["task"]),
            classes=classes,
            threshold=0.5 if output["threshold"] is None else float(output["threshold"]),
            sample=Sample(list(sample["rows"]), list(sample[said])) if sample else None,
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _shown(column: Column) -> dict[str, Any]:
    hidden = {"unique", *(("min", "max", "allowed") if column.sensitive else ())}
    return column.model_dump(mode="json", exclude=hidden, exclude_none=True, exclude_defaults=True)
