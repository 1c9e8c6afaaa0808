"""`evaluation:` how a model is measured, and when it may be deployed."""

from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from etl_ml.spec.section import Section
from etl_ml.spec.training import LOSSES, Metric


class Champion(Section):
    """What a new model owes to the one that is deployed."""

    rule: Literal["not_worse", "better", "ignore"] = "not_worse"
    margin: float = Field(0.01, ge=0, le=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)


class Evaluation(Section):
    """When a model may be deployed."""

    gates: dict[Metric, FiniteFloat] = Field(
        {}, description="Limits on test rows: lower for scores, upper for losses and errors."
    )
    slices: tuple[str, ...] = Field(
        (), description="Columns; metrics and gates for each of their values."
    )
    max_overfit: float | None = Field(
        None, ge=0, description="Limit on cross-validated mean less test score; null: reported."
    )
    champion: Champion = Champion()

    @model_validator(mode="after")
    def _gates_can_be_met(self) -> Self:
        for name, limit in self.gates.items():
            best = 0.0 if name in LOSSES else 1.0
            if (limit < best) if name in LOSSES else (limit > best):
                raise ValueError(f"gate {name}: {limit} can never be met (the best is {best:g})")
        return self
