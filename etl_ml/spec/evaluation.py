"""`evaluation:` how a model is measured, and when it may be deployed."""

from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from etl_ml.spec.section import Section
from etl_ml.spec.training import LOSSES, Metric


class Champion(Section):
    """What a new model owes to the one that is deployed."""

    rule: Literal["not_worse", "better", "ignore"] = Field(
        "not_worse",
        description="What the difference to the champion surely is: above -margin, above 0; or not "
        "compared.",
    )
    margin: float = Field(
        0.01, ge=0, le=1, description="What a challenger may lose, in the metric's unit."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of the interval of the difference.")


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
    champion: Champion = Field(
        Champion(),
        description="How a challenger is compared with the champion, on the same test rows.",
    )

    @model_validator(mode="after")
    def _gates_can_be_met(self) -> Self:
        for name, limit in self.gates.items():
            best = 0.0 if name in LOSSES else 1.0
            if (limit < best) if name in LOSSES else (limit > best):
                raise ValueError(f"gate {name}: {limit} can never be met (the best is {best:g})")
        return self
