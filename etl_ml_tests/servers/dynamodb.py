"""DynamoDB by moto: any credentials are good, data is in memory."""

from __future__ import annotations

from itertools import count
from typing import Any

import boto3

from etl_ml_tests.servers.process import Server

_numbers = count()


class DynamoDB(Server):
    """`table()` makes a fresh one. What was written does not outlive `stop`."""

    name = "moto"
    install = "pip install 'moto[server]'"
    program = "moto_server"
    region = "us-east-1"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "the-secret-of-tests",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def _settings(self) -> dict[str, Any]:
        return {
            "endpoint_url": self.endpoint,
            "region_name": self.region,
            "aws_access_key_id": "tests",
            "aws_secret_access_key": "the-secret-of-tests",
        }

    def client(self, service: str = "dynamodb") -> Any:
        return boto3.Session().client(service, **self._settings())

    def table(self, key: str = "id", kind: str = "S") -> Any:
        """A boto3 table with a partition key of kind S, N or B; it has a `name`."""
        table = (
            boto3.Session()
            .resource("dynamodb", **self._settings())
            .create_table(
                TableName=f"table-{next(_numbers)}",
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind}],
                BillingMode="PAY_PER_REQUEST",
            )
        )
        table.wait_until_exists()
        return table

    def command(self) -> list[str]:
        return ["-H", "127.0.0.1", "-p", str(self.port)]

    def ask(self) -> None:
        self.client().list_tables()
