"""`load:` where clean rows, or the deployed model, are taken to."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from etl_ml.spec.contract import Contract
from etl_ml.spec.error import nearest
from etl_ml.spec.section import Section
from etl_ml.spec.source import checked_url, public

Mode = Literal["replace", "append", "upsert"]


class _Destination(Section):
    what: Literal["clean_data", "model"] = Field(
        "clean_data", description="The clean rows, or the files of the deployed model's package."
    )
    key: tuple[str, ...] = Field(
        (), description="Columns that upsert knows a row by; default: contract.primary_key."
    )

    @property
    def display(self) -> str:
        """The destination for people: without user, password or query."""
        raise NotImplementedError


class MongoDestination(_Destination):
    """A MongoDB collection; a model goes to GridFS."""

    type: Literal["mongodb"]
    uri: SecretStr = Field(description="mongodb:// or mongodb+srv://, as Atlas shows it.")
    database: str = Field(
        min_length=1,
        max_length=63,
        pattern=r'^[^/\\. "$*<>:|?\x00]+$',
        examples=["shop"],
        description="The database.",
    )
    collection: str = Field(
        min_length=1,
        max_length=150,
        pattern=r"^[^$\x00]+$",
        examples=["orders"],
        description="For a model: the GridFS bucket.",
    )
    mode: Mode = Field("replace", description="See docs/destinations.md.")

    @field_validator("uri")
    @classmethod
    def _can_be_read(cls, uri: SecretStr) -> SecretStr:
        return checked_url(uri, ("mongodb", "mongodb+srv"))

    @property
    def display(self) -> str:
        return f"{public(self.uri.get_secret_value())}/{self.database}.{self.collection}"


class SqlDestination(_Destination):
    """A table of MySQL, MariaDB, PostgreSQL or SQLite."""

    type: Literal["sql"]
    url: SecretStr = Field(description="mysql:// mariadb:// postgresql:// sqlite:///")
    table: str = Field(
        min_length=1, max_length=100, description="`table` or `schema.table`; made if missing."
    )
    mode: Mode = Field("replace", description="See docs/destinations.md.")

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: SecretStr) -> SecretStr:
        scheme = url.get_secret_value().partition(":")[0].partition("+")[0]
        if scheme not in ("mysql", "mariadb", "postgresql", "postgres", "sqlite"):
            raise ValueError("should begin with mysql:// mariadb:// postgresql:// or sqlite:///")
        return checked_url(url)

    @model_validator(mode="after")
    def _takes_rows(self) -> Self:
        _rows_only(self.what, "a SQL table")
        return self

    @property
    def display(self) -> str:
        return f"{public(self.url.get_secret_value())} {self.table}"


class DynamoDestination(_Destination):
    """A DynamoDB table, which must exist: its key schema is not ours to choose."""

    type: Literal["dynamodb"]
    table: str = Field(min_length=1, description="The table's name; it has to be there.")
    region: str | None = Field(None, description="By default the provider's chain.")
    endpoint: str | None = Field(None, description="For what is compatible with DynamoDB.")
    mode: Mode = Field("upsert", description="upsert is all that a DynamoDB table allows.")
    resource: str | None = Field(
        None, description="Key of the Dagster S3 resource whose credentials are used."
    )

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        _rows_only(self.what, "a DynamoDB table")
        if self.mode == "replace":
            raise ValueError(
                "mode: a DynamoDB table cannot be replaced, it has no swap in one step and readers "
                "would see parts of two versions; use upsert"
            )
        if self.mode == "append":
            raise ValueError(
                "mode: a DynamoDB table cannot be appended to, an item with the key of another "
                "takes its place; use upsert"
            )
        return self

    @property
    def display(self) -> str:
        server = public(self.endpoint).partition("://")[2] if self.endpoint else self.region or ""
        return f"dynamodb://{server}/{self.table}" if server else f"dynamodb://{self.table}"


class FileDestination(_Destination):
    """A file or a folder, here or in an object store."""

    type: Literal["file"]
    path: str = Field(
        min_length=1,
        description="Relative to defs.yaml, absolute, or s3:// az:// gs://; ends with a file's "
        "name (`rows.csv.gz`), else a folder.",
    )
    format: Literal["parquet", "csv", "jsonl"] | None = Field(
        None, description="Default: from the name, else parquet."
    )
    mode: Mode = Field("replace", description="replace, or append: one part a version.")
    region: str | None = Field(None, description="S3. By default the provider's chain.")
    endpoint: str | None = Field(None, description="For what is compatible with S3 or Azure Blob.")
    resource: str | None = Field(
        None, description="Key of the Dagster S3 or Azure Blob resource whose credentials are used."
    )

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        scheme, separator, rest = self.path.partition("://")
        if separator and (scheme not in ("s3", "az", "gs") or not rest.strip("/")):
            raise ValueError("path: should be a path, or s3:// az:// gs:// with a bucket")
        if self.mode == "upsert":
            raise ValueError("mode: a file has no key to find a row by; use replace or append")
        if self.what == "model":
            if self.format is not None:
                raise ValueError("format: a model's files are what they are; leave it out")
            return self
        named = named_format(self.path)
        if self.path.lower().endswith((".gz", ".zst")) and named not in ("csv", "jsonl"):
            raise ValueError("path: .gz and .zst are for .csv and .jsonl; Parquet is compressed")
        if named and self.mode == "append":
            raise ValueError("path: append writes one part a version; name a folder")
        if named and self.format not in (None, named):
            raise ValueError(f"format: {self.format} contradicts the path, which says {named}")
        return self

    @property
    def rows_format(self) -> str:
        """What rows are written as."""
        return self.format or named_format(self.path) or "parquet"

    @property
    def display(self) -> str:
        return public(self.path)


Destination = Annotated[
    MongoDestination | SqlDestination | DynamoDestination | FileDestination,
    Field(discriminator="type"),
]


def named_format(path: str) -> Literal["parquet", "csv", "jsonl"] | None:
    """The format that a file's name tells; None for a folder."""
    name = path.rpartition("/")[2].lower().removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith(".csv"):
        return "csv"
    return "jsonl" if name.endswith((".jsonl", ".ndjson")) else None


def names_of(load: Sequence[Destination]) -> list[str]:
    """One name a destination: its type, `_2`, `_3`, … from the second of a type on."""
    seen: dict[str, int] = {}
    names = []
    for destination in load:
        number = seen[destination.type] = seen.get(destination.type, 0) + 1
        names.append(destination.type if number == 1 else f"{destination.type}_{number}")
    return names


def check_destinations(
    load: Sequence[Destination],
    contract: Contract,
    primary_key: Sequence[str],
    dropped: Sequence[str] = (),
) -> None:
    """See that keys are columns of the clean rows, and that no two destinations are one place.

    Parameters
    ----------
    primary_key : what `key` defaults to
    dropped : `cleaning.drop_columns`

    Raises
    ------
    ValueError
        `load.<i>.<key>: <what is wrong>`.
    """
    places: dict[str, int] = {}
    for i, destination in enumerate(load):
        if (first := places.setdefault(destination.display, i)) != i:
            raise ValueError(f"load.{i}: the same place as load.{first}")
        key = destination.key or tuple(primary_key)
        for name in destination.key:
            if name not in contract.columns:
                close = nearest(name, contract.columns)
                hint = f"; did you mean {close!r}?" if close else ""
                raise ValueError(f"load.{i}.key: {name!r} is not under contract.columns{hint}")
        if destination.what == "model":
            continue
        if destination.mode == "upsert":
            if not key and destination.type != "dynamodb":
                raise ValueError(
                    f"load.{i}.key: upsert needs a key; name the columns, or contract.primary_key"
                )
            for name in key:
                if name in dropped:
                    raise ValueError(f"load.{i}.key: {name!r} is under cleaning.drop_columns")


def _rows_only(what: str, place: str) -> None:
    if what == "model":
        raise ValueError(
            f"what: {place} cannot hold a model's files; use a file or mongodb destination"
        )
