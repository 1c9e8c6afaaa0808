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
    false_discovery_rate: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Of the tests of all columns together, after Benjamini and Hochberg.",
    )
    min_effect: Share = Field(
        0.1, description="A distance of distributions (0 to 1) below which nobody is told."
    )
    on_drift: Literal["warn", "fail"] = Field(
        "warn", description="Whether drift is a warning or stops the run."
    )


class Validation(Section):
    """When a run stops before anything downstream changes."""

    max_quarantined: Share = Field(0.05, description="Share of rows.")
    min_rows: int = Field(100, ge=0, description="Valid rows.")
    drift: Drift = Field(
        Drift(), description="What new rows are compared with, and when it counts."
    )
