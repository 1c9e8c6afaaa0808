"""`source:` where the rows come from."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from etl_ml.spec.section import Section
from etl_ml.spec.source_section import Incremental, SourceSection, checked_url, public
from etl_ml.spec.stream import KafkaSource, KinesisSource

__all__ = [
    "STREAMS",
    "WITHOUT_SCHEMA",
    "DynamoSource",
    "FileSource",
    "Incremental",
    "KafkaSource",
    "KinesisSource",
    "MongoSource",
    "RestAuth",
    "RestPaginator",
    "RestSource",
    "Source",
    "SqlSource",
    "checked_url",
    "public",
]


class FileSource(SourceSection):
    """A file, a folder or a glob: CSV, Parquet or JSON lines, plain, `.gz` or `.zst`."""

    type: Literal["file"]
    path: str = Field(
        min_length=1,
        description="Relative to defs.yaml, absolute, or s3:// az:// gs:// https://; with globs.",
    )
    format: Literal["csv", "parquet", "jsonl"] | None = Field(
        None,
        description="Default: from the name, e.g. `.csv`, `.csv.gz`, `.jsonl.zst`, `.parquet`.",
    )
    incremental: Incremental | None = Field(
        None, description="`{}` reads files that are new or changed since the last run."
    )
    resource: str | None = Field(
        None, description="Key of the Dagster S3 or Azure Blob resource whose credentials are used."
    )

    @property
    def address(self) -> str:
        return public(self.path)


class MongoSource(SourceSection):
    """A MongoDB collection."""

    type: Literal["mongodb"]
    uri: SecretStr = Field(description="mongodb:// or mongodb+srv://, as Atlas shows it.")
    database: str = Field(min_length=1, description="The database.")
    collection: str = Field(min_length=1, description="The collection.")
    query: dict[str, Any] = Field(
        {}, description="A find filter; dates, ids and decimals as extended JSON."
    )
    projection: tuple[str, ...] | None = Field(
        None, description="Fields to read; by default all, or the contract's with `drop`."
    )
    batch_size: int = Field(10_000, ge=1, le=1_000_000, description="Documents a round trip.")
    read_preference: Literal[
        "primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"
    ] = Field("primary", description="Which members of a replica set are read.")
    incremental: Incremental | None = Field(
        None, description="Read only what is new since the last run."
    )

    implied: ClassVar[tuple[str, ...]] = ("_id",)
    identity: ClassVar[tuple[str, ...]] = ("_id",)

    @field_validator("uri")
    @classmethod
    def _can_be_read(cls, uri: SecretStr) -> SecretStr:
        return checked_url(uri, ("mongodb", "mongodb+srv"))

    @property
    def address(self) -> str:
        server = public(self.uri.get_secret_value())
        return f"{server}/{self.database}.{self.collection}"


class SqlSource(SourceSection):
    """A table or a query of MySQL, MariaDB, PostgreSQL, SQLite, and what SQLAlchemy reads."""

    type: Literal["sql"]
    url: SecretStr = Field(description="mysql:// postgresql:// sqlite:/// …")
    table: str | None = Field(None, min_length=1, description="`table` or `schema.table`.")
    query: str | None = Field(None, min_length=1, description="One SELECT, instead of a table.")
    partition_column: str | None = Field(
        None, description="An integer column to cut the read by; by default a lone integer key."
    )
    batch_rows: int = Field(200_000, ge=1, le=10_000_000, description="Rows a query.")
    incremental: Incremental | None = Field(
        None, description="Read only what is new since the last run."
    )

    @field_validator("url")
    @classmethod
    def _can_be_read(cls, url: SecretStr) -> SecretStr:
        return checked_url(url)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("name one of `table` and `query`")
        return self

    @property
    def address(self) -> str:
        return f"{public(self.url.get_secret_value())} {self.table or 'query'}"


class RestAuth(Section):
    """How requests are signed; which keys apply depends on `type`."""

    type: Literal["bearer", "api_key", "http_basic", "oauth2_client_credentials"]
    token: SecretStr | None = Field(None, description="bearer")
    name: str | None = Field(None, description="api_key: the header's or parameter's name.")
    api_key: SecretStr | None = Field(None, description="api_key")
    location: Literal["header", "query", "cookie"] = Field("header", description="api_key")
    username: str | None = Field(None, description="http_basic")
    password: SecretStr | None = Field(None, description="http_basic")
    access_token_url: str | None = Field(None, description="oauth2_client_credentials")
    client_id: SecretStr | None = Field(None, description="oauth2_client_credentials")
    client_secret: SecretStr | None = Field(None, description="oauth2_client_credentials")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needed = {
            "bearer": ("token",),
            "api_key": ("name", "api_key"),
            "http_basic": ("username", "password"),
            "oauth2_client_credentials": ("access_token_url", "client_id", "client_secret"),
        }[self.type]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.type} needs {', '.join(missing)}")
        return self


class RestPaginator(Section):
    """How one page leads to the next: dlt's paginators and their parameters."""

    type: Literal[
        "auto", "single_page", "json_link", "header_link", "cursor", "offset", "page_number"
    ] = "auto"
    next_url_path: str | None = Field(None, description="json_link: where the next URL stands.")
    links_next_key: str | None = Field(None, description="header_link: the relation's name.")
    cursor_path: str | None = Field(None, description="cursor: where the next cursor stands.")
    cursor_param: str | None = Field(None, description="cursor: the parameter that carries it.")
    limit: int | None = Field(None, ge=1, description="offset: rows a page.")
    offset_param: str | None = Field(None, description="offset")
    limit_param: str | None = Field(None, description="offset")
    base_page: int | None = Field(None, ge=0, description="page_number: the first page's number.")
    page_param: str | None = Field(None, description="page_number")
    total_path: str | None = Field(
        None,
        description="offset, page_number: where the total stands; none: until a page is empty.",
    )
    has_more_path: str | None = Field(None, description="cursor, offset, page_number: a boolean.")


class RestSource(SourceSection):
    """One endpoint of a REST API that answers with JSON."""

    type: Literal["rest_api"]
    base_url: str = Field(
        pattern=r"^https?://\S+$",
        examples=["https://api.example.com/v1"],
        description="What `path` is relative to.",
    )
    path: str = Field("", description="The endpoint, relative to base_url.")
    params: dict[str, str | int | float | bool] = Field(
        {}, description="`{cursor}` stands for the place to read from; left out on a full read."
    )
    headers: dict[str, SecretStr] = Field({}, description="Sent with every request.")
    auth: RestAuth | None = Field(None, description="Who is asking.")
    paginator: RestPaginator = Field(RestPaginator(), description="How one page leads to the next.")
    data_selector: str | None = Field(None, description="JSONPath to the rows, e.g. `data.items`.")
    requests_per_second: float | None = Field(
        None, gt=0, description="At most; by default as fast as it answers."
    )
    timeout_seconds: float = Field(60, gt=0, description="For one answer.")
    max_retries: int = Field(6, ge=0, le=20, description="Of one request: 429, 5xx, no answer.")
    max_pages: int = Field(100_000, ge=1, description="An API that has more is taken for endless.")
    incremental: Incremental | None = Field(
        None, description="Read only what is new since the last run."
    )

    @property
    def address(self) -> str:
        return public(f"{self.base_url.rstrip('/')}/{self.path.lstrip('/')}".rstrip("/"))


class DynamoSource(SourceSection):
    """A DynamoDB table: a parallel scan, or an export of it to S3."""

    type: Literal["dynamodb"]
    table: str = Field(min_length=1, description="The table's name.")
    region: str | None = Field(None, description="By default the provider's chain.")
    endpoint: str | None = Field(None, description="For what is compatible with DynamoDB.")
    segments: int = Field(4, ge=1, le=1000, description="Parts scanned at once.")
    export: str | None = Field(
        None, description="s3:// folder of an export in DynamoDB JSON, read instead of the table."
    )
    resource: str | None = Field(
        None, description="Key of the Dagster resource whose credentials are used."
    )
    incremental: None = Field(None, description="A table is read as a whole.")

    @property
    def address(self) -> str:
        return public(self.export) if self.export else f"dynamodb://{self.table}"


Source = Annotated[
    FileSource | MongoSource | SqlSource | RestSource | DynamoSource | KafkaSource | KinesisSource,
    Field(discriminator="type"),
]

STREAMS = (KafkaSource, KinesisSource)

WITHOUT_SCHEMA = (MongoSource, RestSource, DynamoSource, KafkaSource, KinesisSource)
"""Their rows have the fields that they have: the contract alone says what the columns are."""
