"""DynamoDB: batches of 25 puts; an item takes the place of the one with its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from etl_ml.lake.backoff import Backoff
from etl_ml.lake.progress import Progress
from etl_ml.load.load_error import LoadError
from etl_ml.load.rows import Rows
from etl_ml.spec.destination import DynamoDestination
from etl_ml.spec.error import bounded, listed

if TYPE_CHECKING:
    import polars as pl

    from etl_ml.lake.stores import StoreSettings

_BATCH = 5_000
_PUTS = 25  # the service's limit
_KINDS = {"integer": "N", "float": "N", "boolean": "BOOL"}
_THROTTLED = (
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
    "ServiceUnavailable",
)
_REFUSALS = {
    "ResourceNotFoundException": ("there is no such table", "create it, or correct table, region"),
    "UnrecognizedClientException": ("the credentials are not valid", "correct the credentials"),
    "InvalidSignatureException": ("the credentials are not valid", "correct the credentials"),
    "AccessDeniedException": (
        "the credentials lack a right",
        "grant dynamodb:DescribeTable and dynamodb:BatchWriteItem",
    ),
}


def load_rows(
    rows: Rows,
    destination: DynamoDestination,
    key: Sequence[str],
    progress: Progress,
    settings: StoreSettings | None = None,
) -> None:
    """Put each row as an item; null cells are left out, floats keep every digit.

    Raises
    ------
    LoadError
        What has been put stays, and is put again by the next load.
    """
    client = client_of(destination, settings)
    table = asked(
        destination, lambda: client.describe_table(TableName=destination.table), patience=5
    )["Table"]
    schema = [part["AttributeName"] for part in table["KeySchema"]]
    kinds = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
    _same_key(rows, schema, kinds, key or schema, destination)
    rows.refuse_doubles(schema)
    client.meta.events.register(
        "before-send.dynamodb.*", lambda request, **_: progress.add(0, len(request.body))
    )
    for batch in rows.batches(_BATCH):
        rows.refuse_null_key(batch, schema)
        rows.not_finite(batch)
        items = list(_items(batch, rows))
        for start in range(0, len(items), _PUTS):
            puts = [{"PutRequest": {"Item": item}} for item in items[start : start + _PUTS]]
            _put(client, destination, puts)
            progress.add(len(puts))


def client_of(destination: DynamoDestination, settings: StoreSettings | None) -> Any:
    """A boto3 client that asks each question once."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    given: dict[str, Any] = {}
    if settings is not None:
        given = {
            "aws_access_key_id": settings.key,
            "aws_secret_access_key": settings.secret,
            "aws_session_token": settings.token,
            "profile_name": settings.profile,
            "region_name": settings.region,
        }
    try:
        return boto3.Session(**given).client(
            "dynamodb",
            region_name=destination.region,
            endpoint_url=destination.endpoint,  # the settings' is that of S3
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=10),
        )
    except (BotoCoreError, ValueError) as error:
        raise LoadError(
            f"the service cannot be asked ({type(error).__name__}).",
            seen=bounded(str(error), 160),
            where=destination.display,
            fix="correct region, endpoint and profile",
        ) from None


def asked(
    destination: DynamoDestination, question: Callable[[], Any], patience: float = 180
) -> Any:
    """The answer; throttled and interrupted requests are asked again, with back-off."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionClosedError,
        HTTPClientError,
    )

    backoff = Backoff(patience)
    while True:
        try:
            return question()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            what, fix = _REFUSALS.get(code, (f"the service refused ({code})", None))
            reason = LoadError(f"{what}.", where=destination.display, fix=fix)
            if code not in _THROTTLED:
                raise reason from None
        except BotoCoreError as error:
            reason = LoadError(
                f"the service cannot be asked ({type(error).__name__}).",
                where=destination.display,
                fix="correct region, endpoint and credentials",
            )
            if not isinstance(error, HTTPClientError | ConnectionClosedError):
                raise reason from None
        backoff.wait(reason)


def _put(client: Any, destination: DynamoDestination, puts: list[dict[str, Any]]) -> None:
    backoff = Backoff()
    left = {destination.table: puts}
    while left:
        answer = asked(destination, partial(client.batch_write_item, RequestItems=left))
        unprocessed = answer.get("UnprocessedItems") or {}
        if unprocessed and unprocessed == left:
            backoff.wait(
                LoadError("the table is throttled.", where=destination.display, fix="add capacity")
            )
        left = unprocessed


def _same_key(
    rows: Rows,
    schema: Sequence[str],
    kinds: Mapping[str, str],
    key: Sequence[str],
    destination: DynamoDestination,
) -> None:
    """The service's key is the only one that there is."""
    wrong = [
        f"{name} is {kinds[name]}"
        for name in schema
        if name in rows.columns and _KINDS.get(rows.columns[name].type, "S") != kinds[name]
    ]
    if set(key) != set(schema) or any(name not in rows.columns for name in schema) or wrong:
        raise LoadError(
            f"the table's key is ({listed(schema)}), the rows' is ({listed(key)}).",
            seen=listed(wrong) if wrong else None,
            where=destination.display,
            fix=f"set key: [{', '.join(schema)}], with columns of its types",
        )


def _items(batch: pl.DataFrame, rows: Rows) -> Any:
    for row in batch.select(list(rows.columns)).iter_rows(named=True):
        yield {name: _cell(value) for name, value in row.items() if value is not None}


def _cell(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float):
        return {"N": repr(value)}
    if isinstance(value, datetime | date):
        return {"S": value.isoformat()}
    return {"S": value}
