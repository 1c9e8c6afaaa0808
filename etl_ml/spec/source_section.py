"""What the sources of every type have in common."""

import re
from typing import ClassVar

from pydantic import Field, SecretStr

from etl_ml.spec.section import Section

NULL_VALUES = ("", "na", "NA", "?")


class Incremental(Section):
    """Read what is new since the last run; without this every run reads everything."""

    cursor: str | None = Field(
        None, description="The column that grows, e.g. `_id`, `updated_at`; for files: none."
    )
    lag_seconds: float | None = Field(
        None,
        ge=0,
        le=10 * 366 * 86_400,
        description="Read again this far behind a cursor that carries time; by default 60.",
    )
    lag_rows: int | None = Field(
        None,
        ge=0,
        le=10_000_000,
        description="Read again this many rows behind any other cursor; by default 0.",
    )


class SourceSection(Section):
    """A source; its type is the subclass.

    Attributes
    ----------
    implied : columns of every row, whether the contract names them or not
    identity : those of them that identify a row where the contract has no primary key
    """

    implied: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[tuple[str, ...]] = ()

    null_values: tuple[str, ...] = Field(
        NULL_VALUES, description="Texts that mean null, compared after trimming white space."
    )

    @property
    def address(self) -> str:
        """Where the rows come from, for people: without user, password or signature."""
        raise NotImplementedError


def public(url: str) -> str:
    """A URL without user, password, query and fragment; a path as it is."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "…" if "@" in url else url
    if scheme in ("s3", "az", "gs"):  # a `?` there is a glob's
        return url
    shown = re.split(r"[?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(shown) :]:  # perhaps a password that was not percent-encoded
        shown = ""
    shown = shown.rpartition("@")[2].rstrip("/")
    return f"{scheme}://{shown or '…'}"


def checked_url(url: SecretStr, schemes: tuple[str, ...] = ()) -> SecretStr:
    """A URL whose host cannot be taken for a part of its password, or the other way round."""
    scheme, separator, rest = url.get_secret_value().partition("://")
    if not separator or (schemes and scheme not in schemes):
        wanted = " or ".join(f"{name}://" for name in schemes) or "a scheme, e.g. mysql://"
        raise ValueError(f"should begin with {wanted}")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :].partition("?")[0]
    if authority.count("@") > 1 or "@" in behind:
        raise ValueError("percent-encode user and password: @ is %40, / is %2F, : is %3A, % is %25")
    return url
