"""`validation:` when a run stops before anything downstream changes."""

from typing import Literal

from pydantic import Field

from etl_ml.spec.section import Section, Share


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
