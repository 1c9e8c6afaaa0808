"""`deployment:` where an approved model is pushed to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from etl_ml.spec.section import Section
from etl_ml.spec.source import Source

CLASS = "module:Class"
"""Stands for every type that is a class of the user's."""
_CLASS = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class _Target(Section):
    @property
    def display(self) -> str:
        """The target for people: without user, password or query."""
        raise NotImplementedError


class _Folder(_Target):
    url: str

    @field_validator("url")
    @classmethod
    def _ends_plainly(cls, url: str) -> str:
        return url.rstrip("/") or url

    @property
    def display(self) -> str:
        return self.url


class FileTarget(_Folder):
    """A folder, here or on a share."""

    type: Literal["file"]
    url: str = Field(min_length=1, description="A path; relative to defs.yaml.")

    @field_validator("url")
    @classmethod
    def _is_path(cls, url: str) -> str:
        if "://" in url and not url.startswith("file:///"):
            raise ValueError("should be a path; object stores are of type s3, azure_blob or gcs")
        return url


class S3Target(_Folder):
    """A prefix in a bucket of S3, or of what is compatible with it."""

    type: Literal["s3"]
    url: str = Field(pattern=r"^s3://[^/@]+", examples=["s3://bucket/prefix"])
    region: str | None = Field(None, description="By default the provider's chain.")
    endpoint: str | None = Field(None, description="For what is compatible with S3.")
    resource: str | None = Field(
        None, description="Key of the Dagster S3 resource whose credentials are used."
    )


class AzureBlobTarget(_Folder):
    """A prefix in a container of Azure Blob Storage."""

    type: Literal["azure_blob"]
    url: str = Field(pattern=r"^az://[^/@]+", examples=["az://container/prefix"])
    endpoint: str | None = Field(None, description="Of the account, for an emulator.")
    resource: str | None = Field(
        None, description="Key of the Dagster Azure Blob resource whose credentials are used."
    )


class CustomTarget(_Target):
    """A class of yours, `module:Class`; it is called with the other keys as arguments."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(pattern=_CLASS, examples=["module:Class"])

    @model_validator(mode="before")
    @classmethod
    def _named(cls, target: Any) -> Any:
        return {"type": target} if isinstance(target, str) else target

    def __repr_args__(self) -> Any:
        """Without the values of the options, which may be secrets."""
        return [("type", self.type), ("options", sorted(self.options))]

    @property
    def options(self) -> dict[str, Any]:
        """What its class is called with."""
        return dict(self.model_extra or {})

    @property
    def display(self) -> str:
        return self.type


def _kind(target: Any) -> str | None:
    """Which member of the union a target is; None for what has no type."""
    if isinstance(target, CustomTarget | str):
        return CLASS
    kind = target.get("type") if isinstance(target, dict) else getattr(target, "type", None)
    return CLASS if isinstance(kind, str) and ":" in kind else kind


_KINDS = ("file", "s3", "azure_blob", CLASS)


def _told_apart(schema: dict[str, Any]) -> None:
    """The JSON schema of a union that a function tells apart does not say by what."""
    references = [member["$ref"] for member in schema["oneOf"]]
    mapping = dict(zip(_KINDS, references, strict=True))
    schema["discriminator"] = {"propertyName": "type", "mapping": mapping}


DeploymentTarget = Annotated[
    Annotated[FileTarget, Tag("file")]
    | Annotated[S3Target, Tag("s3")]
    | Annotated[AzureBlobTarget, Tag("azure_blob")]
    | Annotated[CustomTarget, Tag(CLASS)],
    Discriminator(_kind),
    Field(json_schema_extra=_told_apart),
]


class Deployment(Section):
    """What becomes of a model that passed its evaluation."""

    approval: Literal["automatic", "manual"] = Field(
        "automatic",
        description="manual: it is packed, verified and pushed, and waits for `etl-ml promote`.",
    )
    targets: tuple[DeploymentTarget, ...] = Field(
        (), description="Where the champion's package is pushed to, beside the lake's registry."
    )

    @field_validator("targets")
    @classmethod
    def _are_several_places(cls, targets: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: dict[str, int] = {}
        for i, target in enumerate(targets):
            options = getattr(target, "options", None)
            if (first := seen.setdefault(f"{target.display}{options or ''}", i)) != i:
                raise ValueError(f"{i}: the same place as {first}")
        return targets


class Predictions(Section):
    """Rows that are scored by the champion in each run."""

    input: Source | None = Field(
        None, description="A source, read as a whole; by default the newest clean_data."
    )

    @field_validator("input")
    @classmethod
    def _is_read_as_a_whole(cls, source: Source | None) -> Source | None:
        if source is not None and source.incremental is not None:
            raise ValueError("incremental: an input is read as a whole; leave it out")
        return source


def target_names(targets: Sequence[Any]) -> list[str]:
    """One name a target: its type, for a class its name; `_2`, `_3`, … from the second on."""
    seen: dict[str, int] = {}
    names = []
    for target in targets:
        name = target.type.rpartition(":")[2]
        number = seen[name] = seen.get(name, 0) + 1
        names.append(name if number == 1 else f"{name}_{number}")
    return names
