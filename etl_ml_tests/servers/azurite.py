"""Azure Blob Storage, by Azurite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ResourceTypes,
    generate_account_sas,
)

from etl_ml_tests.servers.process import Server

_numbers = count()


class Azurite(Server):
    """`container()` makes a fresh one."""

    name = "Azurite"
    install = "npm install -g azurite"
    program = "azurite-blob"
    account = "devstoreaccount1"
    # The one that Azurite publishes.
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.account}"

    @property
    def environment(self) -> dict[str, str]:
        """For obstore and Delta Lake."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": self.account,
            "AZURE_STORAGE_ACCOUNT_KEY": self.key,
            "AZURE_STORAGE_ENDPOINT": self.url,
            "AZURE_ALLOW_HTTP": "true",
        }

    def client(self) -> BlobServiceClient:
        credential = {"account_name": self.account, "account_key": self.key}
        return BlobServiceClient(self.url, credential, retry_total=0)

    def token(self, permission: str, hours: float = 1) -> str:
        """A shared access signature; one of negative hours has expired."""
        now = datetime.now(UTC)
        return generate_account_sas(
            self.account,
            self.key,
            ResourceTypes(container=True, object=True),
            AccountSasPermissions.from_string(permission),
            expiry=now + timedelta(hours=hours),
            start=now - timedelta(days=1),
            protocol="https,http",
        )

    def container(self) -> str:
        name = f"container-{next(_numbers)}"
        self.client().create_container(name)
        return name

    def command(self) -> list[str]:
        return [
            *("--blobHost", "127.0.0.1", "--blobPort", str(self.port)),
            *("--location", str(self.folder / "data")),
            *("--silent", "--disableTelemetry", "--skipApiVersionCheck"),
        ]

    def ask(self) -> None:
        self.client().get_service_properties()
