"""`deployment:` where an approved model is pushed to."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from etl_ml.spec.section import Section
from etl_ml.spec.source import Source
from etl_ml.spec.stream import Stream

CLASS = "module:Class"
"""Stands for every type that is a class of the user's."""
CLASS_PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


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
    url: str = Field(
        pattern=r"^s3://[^/:@?#]+(/.*)?$",
        examples=["s3://bucket/prefix"],
        description="Where packages go.",
    )
    region: str | None = Field(None, description="By default the provider's chain.")
    endpoint: str | None = Field(None, description="For what is compatible with S3.")
    resource: str | None = Field(
        None, description="Key of the Dagster S3 resource whose credentials are used."
    )


class AzureBlobTarget(_Folder):
    """A prefix in a container of Azure Blob Storage."""

    type: Literal["azure_blob"]
    url: str = Field(
        pattern=r"^az://[^/:@?#]+(/.*)?$",
        examples=["az://container/prefix"],
        description="Where packages go.",
    )
    endpoint: str | None = Field(None, description="Of the account, for an emulator.")
    resource: str | None = Field(
        None, description="Key of the Dagster Azure Blob resource whose credentials are used."
    )


class GcsTarget(_Folder):
    """A prefix in a bucket of Google Cloud Storage."""

    type: Literal["gcs"]
    url: str = Field(
        pattern=r"^gs://[^/:@?#]+(/.*)?$",
        examples=["gs://bucket/prefix"],
        description="Where packages go.",
    )
    project: str | None = Field(None, description="By default that of the credentials.")
    endpoint: str | None = Field(None, description="For an emulator or a private endpoint.")


class SageMakerTarget(_Folder):
    """An endpoint of Amazon SageMaker, made if it is missing and updated blue/green."""

    type: Literal["sagemaker"]
    url: str = Field(
        pattern=r"^s3://[^/:@?#]+(/.*)?$",
        examples=["s3://bucket/prefix"],
        description="For the model data.",
    )
    image: str = Field(
        min_length=1,
        max_length=255,
        pattern=r"^\S+$",
        examples=["123456789012.dkr.ecr.eu-west-1.amazonaws.com/etl-ml-serve:1"],
        description="In ECR, of a container that runs `etl-ml serve`.",
    )
    role_arn: str = Field(
        pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$",
        examples=["arn:aws:iam::123456789012:role/sagemaker"],
        description="What the container runs as: it reads the model data and pulls the image.",
    )
    endpoint_name: str | None = Field(
        None,
        max_length=63,
        pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
        examples=["churn-eu"],
        description="By default the pipeline's name.",
    )
    instance_type: str = Field(
        "ml.m5.large",
        pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$",
        examples=["ml.m5.large"],
        description="Of the endpoint's machines.",
    )
    instance_count: int = Field(1, ge=1, le=100, description="Of the endpoint.")
    variant: str = Field(
        "AllTraffic",
        max_length=63,
        pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
        examples=["AllTraffic"],
        description="Name of the production variant.",
    )
    environment: dict[str, str] = Field(
        default_factory=dict, max_length=90, description="Of the container; nothing secret."
    )
    verify: bool = Field(
        True,
        description="Ask the endpoint the sample rows once it is in service; false for an image "
        "of your own that speaks another protocol.",
    )
    alarms: tuple[str, ...] = Field(
        (), max_length=10, description="CloudWatch alarms that roll an update back."
    )
    bake_seconds: int = Field(
        300, ge=0, le=3600, description="How long the alarms are watched after the traffic moved."
    )
    wait_seconds: int = Field(
        1800, ge=1, le=28_800, description="How long an update is waited for."
    )
    tags: dict[str, str] = Field(
        default_factory=dict, max_length=45, description="Of everything that is made there."
    )
    region: str | None = Field(None, description="By default the provider's chain.")
    endpoint: str | None = Field(None, description="Of an emulator of SageMaker and S3.")
    resource: str | None = Field(
        None, description="Key of the Dagster S3 resource whose credentials are used."
    )

    @property
    def display(self) -> str:
        return f"SageMaker endpoint {self.endpoint_name or 'of the pipeline'}, {self.url}"


class AzureMlTarget(_Folder):
    """A managed online endpoint of Azure Machine Learning, made if it is missing."""

    type: Literal["azure_ml"]
    url: str = Field(
        pattern=r"^az://[^/:@?#]+(/.*)?$",
        examples=["az://container/prefix"],
        description="For the model data, in the container of `datastore`.",
    )
    datastore: str = Field(
        "workspaceblobstore", min_length=1, description="Of the workspace, over url's container."
    )
    subscription_id: str = Field(
        pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        examples=["00000000-0000-0000-0000-000000000000"],
        description="Of the Azure subscription.",
    )
    resource_group: str = Field(
        min_length=1,
        max_length=90,
        pattern=r"^[\w.()-]+$",
        examples=["ml-production"],
        description="That the workspace is in.",
    )
    workspace: str = Field(
        min_length=3,
        max_length=33,
        pattern=r"^[\w-]+$",
        examples=["churn-models"],
        description="Of Azure Machine Learning.",
    )
    image: str = Field(
        min_length=1,
        pattern=r"^\S+$",
        examples=["models.azurecr.io/etl-ml-serve:1"],
        description="In the workspace's registry, of a container that runs `etl-ml serve`.",
    )
    endpoint_name: str | None = Field(
        None,
        min_length=3,
        max_length=32,
        pattern=r"^[a-zA-Z](-*[a-zA-Z0-9])+$",
        examples=["churn-eu"],
        description="By default the pipeline's name; one of its kind in the Azure region.",
    )
    instance_type: str = Field(
        "Standard_DS3_v2",
        pattern=r"^Standard_\w+$",
        examples=["Standard_DS3_v2"],
        description="Of the deployment's machines.",
    )
    instance_count: int = Field(1, ge=1, le=50, description="Of a deployment.")
    concurrent_requests: int = Field(100, ge=1, description="That one instance works on at once.")
    port: int = Field(8080, ge=1, le=65_535, description="That the container listens on.")
    environment: dict[str, str] = Field(
        default_factory=dict, max_length=90, description="Of the container; nothing secret."
    )
    auth_mode: Literal["key", "aml_token", "aad_token"] = Field(
        "key", description="How whoever asks the endpoint says who they are."
    )
    verify: bool = Field(
        True,
        description="Ask a deployment the sample rows before it gets traffic; false for an image "
        "of your own that speaks another protocol.",
    )
    wait_seconds: int = Field(
        1800, ge=1, le=14_400, description="How long a change of the endpoint is waited for."
    )
    tags: dict[str, str] = Field(
        default_factory=dict, max_length=40, description="Of everything that is made there."
    )
    endpoint: str | None = Field(None, description="Of the storage account, for an emulator.")
    resource: str | None = Field(
        None,
        description="Key of the Dagster Azure Blob resource whose credentials the model data is "
        "stored with; for all else the provider's chain.",
    )

    @property
    def display(self) -> str:
        return f"Azure ML endpoint {self.workspace}/{self.endpoint_name or 'of the pipeline'}"


class CustomTarget(_Target):
    """A class of yours, `module:Class`; it is called with the other keys as arguments."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(json_schema_extra={"pattern": CLASS_PATTERN})

    @field_validator("type")
    @classmethod
    def _is_a_class(cls, type: str) -> str:
        if not re.match(CLASS_PATTERN, type):
            raise ValueError(
                f"should be a class of yours, module:Class, or {', '.join(_KINDS[:-1])}"
            )
        return type

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


_KINDS = ("file", "s3", "azure_blob", "gcs", "sagemaker", "azure_ml", CLASS)


def _told_apart(schema: dict[str, Any]) -> None:
    """The JSON schema of a union that a function tells apart does not say by what."""
    references = [member["$ref"] for member in schema["oneOf"]]
    mapping = dict(zip(_KINDS, references, strict=True))
    schema["discriminator"] = {"propertyName": "type", "mapping": mapping}


DeploymentTarget = Annotated[
    Annotated[FileTarget, Tag("file")]
    | Annotated[S3Target, Tag("s3")]
    | Annotated[AzureBlobTarget, Tag("azure_blob")]
    | Annotated[GcsTarget, Tag("gcs")]
    | Annotated[SageMakerTarget, Tag("sagemaker")]
    | Annotated[AzureMlTarget, Tag("azure_ml")]
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
        if isinstance(source, Stream):
            raise ValueError("type: an input is read as a whole, and a stream has no end")
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
