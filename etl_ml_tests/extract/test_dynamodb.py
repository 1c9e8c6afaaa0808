from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from etl_ml.extract.dynamodb import open_dynamodb
from etl_ml.extract.source_error import SourceError
from etl_ml.lake.identity import ORIGINAL
from etl_ml.spec.contract import Contract
from etl_ml.spec.source import DynamoSource
from etl_ml_tests.servers.dynamodb import DynamoDB

CONTRACT = Contract.model_validate(
    {
        "unknown_columns": "drop",
        "columns": {n: {"type": "string"} for n in ("id", "n", "s", "m", "m.a", "b", "t")},
    }
)


def read(contract: Contract, **settings: Any) -> pa.Table:
    source = DynamoSource.model_validate({"type": "dynamodb", **settings})
    reader = open_dynamodb(source, contract, None)
    return pa.Table.from_batches(list(reader), reader.schema)


@pytest.fixture
def credentials(dynamodb: DynamoDB, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in dynamodb.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("credentials")
def test_every_kind_of_value_is_its_exact_text(dynamodb: DynamoDB) -> None:
    table = dynamodb.table()
    precise = Decimal("12345678901234567890.123456789012345678")
    table.put_item(
        Item={
            **{"id": "1", "n": precise, "s": {Decimal(2), Decimal(1)}, "b": b"\x00\xff"},
            **{"m": {"a": [Decimal("1.5"), None]}, "t": True, "more": 1},
        }
    )
    (row,) = read(CONTRACT, table=table.name).to_pylist()
    assert row == {
        **{"id": "1", "n": str(precise), "s": "[1, 2]", "b": "AP8=", "t": "true"},
        **{"m": '{"a": [1.5, null]}', "m.a": "[1.5, null]", ORIGINAL: None},
    }


@pytest.mark.usefixtures("credentials")
def test_segments_together_give_each_item_once(dynamodb: DynamoDB) -> None:
    table = dynamodb.table()
    with table.batch_writer() as writer:
        for number in range(1500):
            writer.put_item(Item={"id": str(number), "s": "x" * 2000})
    found = read(CONTRACT, table=table.name, segments=3)["id"].to_pylist()
    assert sorted(map(int, found)) == list(range(1500))


@pytest.mark.usefixtures("credentials")
def test_a_table_that_is_not_there_is_named(dynamodb: DynamoDB) -> None:
    table = dynamodb.table()
    with pytest.raises(SourceError, match="no such table") as raised:
        read(CONTRACT, table=table.name + "x")
    assert raised.value.close is not None
