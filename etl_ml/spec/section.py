"""What every section of a pipeline's YAML has in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of `defs.yaml`: no unknown keys, never changed after parsing, inputs never echoed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, protected_namespaces=()
    )


Share = Annotated[float, Field(ge=0, le=1)]
"""A share of rows, 0 to 1."""
