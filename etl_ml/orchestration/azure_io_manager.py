"""A lake in Azure Blob Storage, with the credentials of dagster-azure's resource."""

from dagster import ResourceDependency
from dagster_azure.blob import AzureBlobStorageResource
from pydantic import Field

from etl_ml.lake import Lake, open_lake
from etl_ml.orchestration.lake_io_manager import StoredInLake
from etl_ml.orchestration.stores import settings_from


class AzureLakeIOManager(StoredInLake):
    """Keeps values in a lake in a container of Azure Blob Storage."""

    azure: ResourceDependency[AzureBlobStorageResource]
    container: str
    prefix: str = Field(default="", description="Where in the container the lake is.")

    def open(self) -> Lake:
        return open_lake(f"az://{self.container}/{self.prefix}", settings_from(self.azure, "azure"))
