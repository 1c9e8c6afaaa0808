"""How long a lake remembers."""

import re
from datetime import timedelta

from pydantic import Field, field_validator

from etl_ml.spec.section import Section

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Retention(Section):
    """What a good run leaves in the lake."""

    keep: int = Field(30, ge=1, description="Versions of each asset that always stay.")
    older_than: str = Field("30d", description="What is younger stays: 12h, 30d, 8w.")

    @field_validator("older_than")
    @classmethod
    def _is_a_duration(cls, text: str) -> str:
        duration(text)
        return text


def duration(text: str) -> timedelta:
    """A number and a unit as a span of time: `90m`, `12h`, `30d`, `8w`.

    Raises
    ------
    ValueError
        It is none.
    """
    found = re.fullmatch(r"\s*(\d{1,6})\s*([mhdw])\s*", text)
    if found is None:
        raise ValueError("write a number and m, h, d or w, e.g. 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
