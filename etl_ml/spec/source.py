"""`source:` where the rows come from."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

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


class _Source(Section):
    null_values: tuple[str, ...] = Field(
        NULL_VALUES, description="Texts that mean null, compared after trimming white space."
    )

    @property
    def address(self) -> str:
        """Where the rows come from, for people: without user, password or signature."""
        raise NotImplementedError


class FileSource(_Source):
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


class MongoSource(_Source):
    """A MongoDB collection."""

    type: Literal["mongodb"]
    uri: SecretStr = Field(description="mongodb:// or mongodb+srv://, as Atlas shows it.")
    database: str = Field(min_length=1)
    collection: str = Field(min_length=1)
    query: dict[str, Any] = Field(
        {}, description="A find filter; dates, ids and decimals as extended JSON."
    )
    projection: tuple[str, ...] | None = Field(
        None, description="Fields to read; by default all, or the contract's with `drop`."
    )
    batch_size: int = Field(10_000, ge=1, le=1_000_000, description="Documents a round trip.")
    read_preference: Literal[
        "primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"
    ] = "primary"
    incremental: Incremental | None = None

    @field_validator("uri")
    @classmethod
    def _can_be_read(cls, uri: SecretStr) -> SecretStr:
        return checked_url(uri, ("mongodb", "mongodb+srv"))

    @property
    def address(self) -> str:
        server = public(self.uri.get_secret_value())
        return f"{server}/{self.database}.{self.collection}"


class SqlSource(_Source):
    """A table or a query of MySQL, MariaDB, PostgreSQL, SQLite, and what SQLAlchemy reads."""

    type: Literal["sql"]
    url: SecretStr = Field(description="mysql:// postgresql:// sqlite:/// …")
    table: str | None = Field(None, min_length=1, description="`table` or `schema.table`.")
    query: str | None = Field(None, min_length=1, description="One SELECT, instead of a table.")
    partition_column: str | None = Field(
        None, description="An integer column to cut the read by; by default a lone integer key."
    )
    batch_rows: int = Field(200_000, ge=1, le=10_000_000, description="Rows a query.")
    incremental: Incremental | None = None

    @field_validator("url")
    @classmethod
    def _can_be_read(cls, url: SecretStr) -> SecretStr:
        return checked_url(url)

    @model_validator(mode="after")
    def _one_of_two(self) -> SqlSource:
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
    def _is_complete(self) -> RestAuth:
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


class RestSource(_Source):
    """One endpoint of a REST API that answers with JSON."""

    type: Literal["rest_api"]
    base_url: str = Field(pattern=r"^https?://\S+$", examples=["https://api.example.com/v1"])
    path: str = Field("", description="The endpoint, relative to base_url.")
    params: dict[str, str | int | float | bool] = Field(
        {}, description="`{cursor}` stands for the place to read from; left out on a full read."
    )
    headers: dict[str, SecretStr] = Field({}, description="Sent with every request.")
    auth: RestAuth | None = None
    paginator: RestPaginator = RestPaginator()
    data_selector: str | None = Field(None, description="JSONPath to the rows, e.g. `data.items`.")
    requests_per_second: float | None = Field(None, gt=0)
    timeout_seconds: float = Field(60, gt=0)
    max_retries: int = Field(6, ge=0, le=20, description="Of one request: 429, 5xx, no answer.")
    max_pages: int = Field(100_000, ge=1, description="An API that has more is taken for endless.")
    incremental: Incremental | None = None

    @property
    def address(self) -> str:
        return public(f"{self.base_url.rstrip('/')}/{self.path.lstrip('/')}".rstrip("/"))


class DynamoSource(_Source):
    """A DynamoDB table: a parallel scan, or an export of it to S3."""

    type: Literal["dynamodb"]
    table: str = Field(min_length=1)
    region: str | None = Field(None, description="By default the provider's chain.")
    endpoint: str | None = Field(None, description="For what is compatible with DynamoDB.")
    segments: int = Field(4, ge=1, le=1000, description="Parts scanned at once.")
    export: str | None = Field(
        None, description="s3:// folder of an export in DynamoDB JSON, read instead of the table."
    )
    resource: str | None = Field(
        None, description="Key of the Dagster resource whose credentials are used."
    )
    incremental: None = None

    @property
    def address(self) -> str:
        return public(self.export) if self.export else f"dynamodb://{self.table}"


Source = Annotated[
    FileSource | MongoSource | SqlSource | RestSource | DynamoSource, Field(discriminator="type")
]

WITHOUT_SCHEMA = (MongoSource, RestSource, DynamoSource)
"""Their rows have the fields that they have: the contract alone says what the columns are."""


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
