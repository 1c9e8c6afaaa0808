"""`source:` where the rows come from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from etl_ml.spec.section import Section

NULL_VALUES = ("", "na", "NA", "?")


class FileSource(Section):
    """One file, a folder's files by a glob: CSV, Parquet or JSON lines, plain, `.gz` or `.zst`."""

    type: Literal["file"]
    path: str = Field(
        min_length=1, description="Relative to defs.yaml, or absolute; globs are allowed."
    )
    format: Literal["csv", "parquet", "jsonl"] | None = Field(
        None,
        description="Default: from the name, e.g. `.csv`, `.csv.gz`, `.jsonl.zst`, `.parquet`.",
    )
    null_values: tuple[str, ...] = Field(
        NULL_VALUES, description="Texts that mean null, compared after trimming white space."
    )
