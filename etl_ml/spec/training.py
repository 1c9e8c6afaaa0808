"""`training:` which candidates are tried, how they are searched, and how the winner is chosen."""

import math
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from etl_ml.spec.error import nearest
from etl_ml.spec.section import Section, Share

Task = Literal["classification", "regression"]
_BOTH = (
    "decision_tree",
    "random_forest",
    "extra_trees",
    "gradient_boosting",
    "hist_gradient_boosting",
    "adaboost",
    "k_nearest_neighbors",
    "svm",
    "lightgbm",
    "xgboost",
    "catboost",
)
CANDIDATES: dict[str, tuple[str, ...]] = {
    "classification": ("logistic_regression", *_BOTH),
    "regression": ("linear_regression", "ridge", "lasso", "elastic_net", *_BOTH),
}
"""The estimators that have a name, by task."""
EXTRAS = {"xgboost": "xgboost", "catboost": "catboost"}
"""Candidates whose library is not always installed: the extra of etl_ml that has it."""

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
    "r2",
    "mae",
    "rmse",
    "mape",
]
METRICS: dict[str, tuple[str, ...]] = {
    "classification": get_args(Metric)[:10],
    "regression": get_args(Metric)[10:],
}
LOSSES = ("log_loss", "brier", "mae", "rmse", "mape")
"""Metrics that are better when smaller; all others are better when larger."""
UNBOUNDED = ("log_loss", "mae", "rmse", "mape")
"""Metrics in units of their own: a margin is a share of the champion's value."""
AtThreshold = Literal["accuracy", "balanced_accuracy", "precision", "recall", "f1", "mcc"]
"""Metrics that depend on a threshold."""

Scalar = str | int | float | bool | None
_CLASS = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


class Range(Section):
    """Numbers from `low` to `high`, both included; integers where both ends are."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _has_numbers(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, not at {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """Whether its numbers are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Candidate(Section):
    """An estimator to try, with the parameters that differ from its defaults."""

    name: str
    params: dict[str, Scalar | tuple[Scalar, ...] | Range] = Field({})

    @property
    def is_class(self) -> bool:
        """Whether the name is `module:Class`."""
        return ":" in self.name

    @property
    def names_code(self) -> bool:
        """Whether only Python can tell if it is there, and takes its parameters."""
        return self.is_class or bool(self.params) or self.name in EXTRAS

    def fixed(self) -> dict[str, Any]:
        """The parameters that are not searched."""
        return {k: v for k, v in self.params.items() if not isinstance(v, tuple | Range)}

    def space(self) -> dict[str, tuple[Scalar, ...] | Range]:
        """The parameters that are searched."""
        return {k: v for k, v in self.params.items() if isinstance(v, tuple | Range)}


def _range(named: str, given: dict[Any, Any]) -> Range:
    """A range, or one sentence that says why it is none."""
    try:
        return Range.model_validate(given)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    told: dict[Any, str] = {}
    for problem in sorted(problems, key=lambda problem: str(problem["type"]) == "extra_forbidden"):
        key = next(iter(problem["loc"]), None)
        if problem["type"] == "extra_forbidden":
            close = nearest(str(key), Range.model_fields)
            told[key] = f"{key!r} is not a key" + (f"; {close!r} is" if close else "")
            told.pop(close, None)  # misspelt, and not missing
        elif problem["type"] == "missing":
            told[key] = f"{key} is missing"
        elif key is None:
            told[key] = problem["msg"].removeprefix("Value error, ")
        else:
            told[key] = f"{key} should be {'true or false' if key == 'log' else 'a number'}"
    raise ValueError(f"{named}: {'; '.join(told.values())}; a range is {_RANGE}")


_RANGE = "{low: 1, high: 10, log: false}"


def _candidate(value: Any) -> Any:
    if isinstance(value, Candidate):
        return value
    name: Any = value
    params: Any = {}
    if isinstance(value, dict) and len(value) == 1:
        ((name, params),) = value.items()
    if not isinstance(name, str) or not isinstance(params, dict | None):
        raise ValueError("a candidate is a name, or `name: {parameter: value}`")
    known = sorted({name for names in CANDIDATES.values() for name in names})
    if "." in name and ":" not in name:
        module, _, attribute = name.rpartition(".")
        raise ValueError(f"a class is named module:Class; write {module}:{attribute}")
    if ":" not in name and name not in known:
        raise PydanticCustomError(
            "candidate",
            "no candidate is called {seen}; there are {expected}, and module:Class",
            {"seen": repr(name), "expected": ", ".join(map(repr, known))},
        )
    read: dict[Any, Any] = {}
    for key, given in (params or {}).items():
        if isinstance(given, dict):
            read[key] = _range(f"{name}.{key}", given)
            continue
        read[key] = tuple(given) if isinstance(given, list) else given
        of_scalars = read[key] if isinstance(read[key], tuple) else (read[key],)
        if isinstance(given, Range):
            continue
        if not of_scalars or not all(isinstance(v, Scalar) for v in of_scalars):
            raise ValueError(f"{name}.{key}: a parameter is a value, a list of values, or {_RANGE}")
    return {"name": name, "params": read}


_NAMES = sorted({name for names in CANDIDATES.values() for name in names})
_CANDIDATE_SCHEMA = {
    "anyOf": [
        {"enum": _NAMES},
        {"type": "string", "pattern": f"^{_CLASS}$"},
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "patternProperties": {f"^({'|'.join(_NAMES)}|{_CLASS})$": {"type": ["object", "null"]}},
            "additionalProperties": False,
        },
    ]
}


class Search(Section):
    """How parameters are searched; every trial is cross-validated on the same folds."""

    method: Literal["none", "grid", "random", "halving", "optuna"] = Field(
        "none",
        description="How parameters are searched; halving spends more rows on what does better.",
    )
    trials: int = Field(20, ge=1, le=10_000, description="Most trials of one candidate.")
    timeout_seconds: float = Field(
        300, gt=0, description="For the whole search; what is finished by then is compared."
    )


class Cost(Section):
    """What a wrong answer costs, in any unit."""

    false_positive: float = Field(
        ge=0, allow_inf_nan=False, description="Of calling a negative row positive, in any unit."
    )
    false_negative: float = Field(
        ge=0, allow_inf_nan=False, description="Of missing a positive row, in the same unit."
    )

    @model_validator(mode="after")
    def _something_costs(self) -> Self:
        if self.false_positive == self.false_negative == 0:
            raise ValueError("both costs are 0: every threshold would do")
        return self


class Threshold(Section):
    """The rule by which the threshold of a binary classifier is chosen; none means 0.5."""

    maximize: AtThreshold | None = Field(
        None, description="The metric that the threshold maximizes."
    )
    precision_at_least: Share | None = Field(
        None, description="The most recall that keeps this precision."
    )
    recall_at_least: Share | None = Field(
        None, description="The most precision that keeps this recall."
    )
    cost: Cost | None = Field(None, description="The least cost, given what either mistake costs.")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if len(self.model_fields_set) > 1:
            raise ValueError(f"one rule, not {len(self.model_fields_set)}")
        return self

    @property
    def is_default(self) -> bool:
        """Whether it is 0.5, whatever the data."""
        return not self.model_dump(exclude_none=True)


def _threshold(value: Any) -> Any:
    if value == "default":
        return {}
    if isinstance(value, str | int | float):
        raise ValueError(
            "it is default, {maximize: f1}, {precision_at_least: 0.95}, {recall_at_least: 0.9} or "
            "{cost: {false_positive: 1, false_negative: 5}}"
        )
    return value


class Tracking(Section):
    """Where else the training is written down."""

    mlflow: SecretStr = Field(min_length=1, description="MLflow's tracking URI.")


class Training(Section):
    """Which candidates are tried, and by which metric the winner is chosen."""

    seed: int = Field(42, ge=0, lt=2**32, description="Of every random choice.")
    metric: Metric | None = Field(
        None,
        description="Ranks the candidates, by cross-validated mean; f1, or r2 for regression.",
    )
    folds: int = Field(
        5, ge=2, le=50, description="Of the cross-validation; all candidates share them."
    )
    candidates: (
        tuple[
            Annotated[Candidate, BeforeValidator(_candidate), WithJsonSchema(_CANDIDATE_SCHEMA)],
            ...,
        ]
        | None
    ) = Field(
        None,
        min_length=1,
        description="Names, module:Class, or `name: {parameter: value, list or range}`; "
        "logistic_regression (ridge for regression), random_forest and lightgbm.",
    )
    search: Search = Field(Search(), description="Which parameters are tried, and for how long.")
    threshold: Annotated[Threshold, BeforeValidator(_threshold)] = Field(
        Threshold(),
        description="default (0.5), or a rule; chosen on out-of-fold predictions, binary only.",
        json_schema_extra={"anyOf": [{"const": "default"}, {"type": "object"}]},
    )
    calibrate: Literal["none", "sigmoid", "isotonic"] = Field(
        "none", description="How probabilities are made to mean shares."
    )
    class_weight: Literal["none", "balanced"] = Field(
        "none", description="balanced: every class weighs the same in training."
    )
    tracking: Tracking | None = Field(
        None, description="Where trials are told to, beside the leaderboard."
    )

    def metric_of(self, task: Task) -> Metric:
        """The metric that ranks."""
        return self.metric or ("f1" if task == "classification" else "r2")

    def candidates_of(self, task: Task) -> tuple[Candidate, ...]:
        """The candidates that are tried."""
        linear = "logistic_regression" if task == "classification" else "ridge"
        defaults = (linear, "random_forest", "lightgbm")
        return self.candidates or tuple(Candidate(name=name) for name in defaults)

    @model_validator(mode="after")
    def _search_fits_the_parameters(self) -> Self:
        method = self.search.method
        for candidate in self.candidates or ():
            searched = candidate.space()
            if searched and method == "none":
                raise ValueError(
                    f"search.method: {candidate.name} has a list or range of "
                    f"{', '.join(searched)}; set it to grid, random, halving or optuna"
                )
            if method == "grid":
                _checked_grid(candidate, self.search.trials)
        return self


def _checked_grid(candidate: Candidate, trials: int) -> None:
    size = 1
    for name, values in candidate.space().items():
        if isinstance(values, Range):
            raise ValueError(
                f"search.method: grid needs a list, and {candidate.name}.{name} is a range"
            )
        size *= len(values)
    if size > trials:
        raise ValueError(
            f"search.trials: the grid of {candidate.name} has {size} points; raise it from {trials}"
        )
