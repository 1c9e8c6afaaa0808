"""What every section of a pipeline's YAML has in common."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A part of `defs.yaml`: no unknown keys, never changed after parsing, inputs never echoed.

    A key without a value (`features:`) has its default.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {k: v for k, v in given.items() if v is not None or not cls._has_default(k)}

    @classmethod
    def _has_default(cls, key: str) -> bool:
        field = cls.model_fields.get(key)
        return field is not None and not field.is_required() and field.default is not None


Share = Annotated[float, Field(ge=0, le=1)]
"""A share of rows, 0 to 1."""
