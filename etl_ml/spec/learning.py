"""`split:`, `features:`, `training:` and `evaluation:` how a model is learned and judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from etl_ml.spec.section import Section, Share

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
SCORES = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "roc_auc",
    "average_precision",
    "mcc",
)
LOSSES = ("log_loss", "brier")
METRICS = SCORES + LOSSES
"""Metrics of a classifier; a score is better when larger, a loss when smaller."""

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


class Split(Section):
    """Which rows train and which test; decided before anything is fitted, by identity."""

    strategy: Literal["hash"] = "hash"
    test_size: float = Field(0.2, gt=0, lt=1, description="Share of units that test.")
    seed: int = Field(42, ge=0, description="The salt of the hash.")
    keep_duplicates_together: bool = Field(
        True, description="Rows with equal features never sit on both sides."
    )


class Numeric(Section):
    """What happens to integer, float and boolean columns."""

    impute: Literal["mean", "median", "most_frequent", "constant"] = Field(
        "median", description="`constant` is 0."
    )
    scale: Literal["none", "standard", "robust", "minmax"] = "none"


class Outliers(Section):
    """Limits learned from training rows."""

    method: Literal["none", "iqr", "zscore"] = "none"
    factor: float = Field(3.0, gt=0, description="Interquartile ranges, or standard deviations.")
    action: Literal["clip", "null"] = "clip"


class Categorical(Section):
    """What happens to string and category columns."""

    impute: Literal["most_frequent", "constant"] = Field(
        "most_frequent", description="`constant` makes missing a category of its own."
    )
    encode: Literal["one_hot", "ordinal", "auto"] = Field(
        "auto", description="`auto`: one-hot up to 20 categories, ordinal above."
    )


class Datetime(Section):
    """What is taken from date and datetime columns."""

    parts: tuple[Literal["year", "month", "day", "day_of_week", "hour"], ...] = Field(
        ("year", "month", "day_of_week", "hour"), min_length=1
    )


class Features(Section):
    """From columns to numbers; everything learned is learned from training rows."""

    numeric: Numeric = Numeric()
    outliers: Outliers = Outliers()
    categorical: Categorical = Categorical()
    datetime: Datetime = Datetime()


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


class Champion(Section):
    """What a new model owes to the one that is deployed."""

    rule: Literal["not_worse", "better", "ignore"] = "not_worse"
    margin: float = Field(0.01, ge=0, le=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)


class Evaluation(Section):
    """When a model may be deployed."""

    gates: dict[Metric, FiniteFloat] = Field(
        {}, description="Limits on test rows: lower for scores, upper for losses."
    )
    max_overfit: float | None = Field(
        None, ge=0, description="Limit on cross-validated mean less test score; null: reported."
    )
    champion: Champion = Champion()

    @model_validator(mode="after")
    def _gates_can_be_met(self) -> Evaluation:
        for name, limit in self.gates.items():
            best = 0.0 if name in LOSSES else 1.0
            if (limit < best) if name in LOSSES else (limit > best):
                raise ValueError(f"gate {name}: {limit} can never be met (the best is {best:g})")
        return self


class Drift(Section):
    """When new rows count as different from the ones that the model knows."""

    reference: Literal["deployed", "previous", "none"] = Field(
        "deployed",
        description="The valid rows that the deployed model descends from, or last run's.",
    )
    false_discovery_rate: float = Field(0.05, gt=0, lt=1)
    min_effect: Share = 0.1
    on_drift: Literal["warn", "fail"] = "warn"


class Validation(Section):
    """When a run stops before anything downstream changes."""

    max_quarantined: Share = Field(0.05, description="Share of rows.")
    min_rows: int = Field(100, ge=0, description="Valid rows.")
    drift: Drift = Drift()


class Cleaning(Section):
    """What is taken out of valid rows."""

    duplicates: Literal["keep", "drop"] = Field(
        "keep", description="Rows that are equal in every column; they carry frequency."
    )
    drop_columns: tuple[str, ...] = ()
    json_rows: int = Field(1_000_000, ge=0, description="Most rows in clean.jsonl.gz.")
