"""`partitions:` a source that is read day by day."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from etl_ml.spec.section import Section


class Partitions(Section):
    """Each run reads whole days, which take the place of what `raw_data` has of them."""

    column: str = Field(description="The date or datetime column that tells a row's day, in UTC.")
    start: date = Field(description="The first day.")
