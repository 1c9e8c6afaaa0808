"""`training:` which candidates are tried, and by which metric the winner is chosen."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from etl_ml.spec.section import Section

CANDIDATES = (
    "logistic_regression",
    "decision_tree",
    "random_forest",
    "extra_trees",
    "gradient_boosting",
    "hist_gradient_boosting",
    "adaboost",
    "k_nearest_neighbors",
    "svm",
    "lightgbm",
)
Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "roc_auc",
    "average_precision",
    "mcc",
    "log_loss",
    "brier",
]
METRICS: tuple[str, ...] = get_args(Metric)
LOSSES = ("log_loss", "brier")
"""Metrics of a classifier: a loss is better when smaller, all others when larger."""


class Candidate(Section):
    """An estimator to try, with the parameters that differ from its defaults."""

    name: str
    params: dict[str, str | int | float | bool | None] = Field({})


def _candidate(value: Any) -> Any:
    if isinstance(value, Candidate):
        return value
    name: Any = value
    params: Any = {}
    if isinstance(value, dict) and len(value) == 1:
        ((name, params),) = value.items()
    if not isinstance(name, str) or not isinstance(params, dict | None):
        raise ValueError("a candidate is a name, or `name: {parameter: value}`")
    if name not in CANDIDATES:
        raise PydanticCustomError(
            "candidate",
            "no candidate is called {seen}; there are {expected}",
            {"seen": repr(name), "expected": ", ".join(map(repr, CANDIDATES))},
        )
    return {"name": name, "params": params or {}}


_CANDIDATE_SCHEMA = {
    "anyOf": [
        {"enum": list(CANDIDATES)},
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {name: {"type": ["object", "null"]} for name in CANDIDATES},
            "additionalProperties": False,
        },
    ]
}


class Training(Section):
    """Which candidates are tried, and by which metric the winner is chosen."""

    seed: int = Field(42, ge=0)
    metric: Metric = Field("f1", description="Ranks the candidates, by cross-validated mean.")
    folds: int = Field(5, ge=2, le=50)
    candidates: tuple[
        Annotated[Candidate, BeforeValidator(_candidate), WithJsonSchema(_CANDIDATE_SCHEMA)], ...
    ] = Field(
        (
            Candidate(name="logistic_regression"),
            Candidate(name="random_forest"),
            Candidate(name="lightgbm"),
        ),
        min_length=1,
        description="Names, or `name: {parameter: value}`.",
    )
