"""A lake in S3, with the credentials of dagster-aws's resource."""

from dagster import ResourceDependency
from dagster_aws.s3 import S3Resource
from pydantic import Field

from etl_ml.lake import Lake, open_lake
from etl_ml.orchestration.lake_io_manager import StoredInLake
from etl_ml.orchestration.stores import settings_from


class S3LakeIOManager(StoredInLake):
    """Keeps values in a lake in an S3 bucket, or in what speaks S3."""

    s3: ResourceDependency[S3Resource]
    bucket: str
    prefix: str = Field(default="", description="Where in the bucket the lake is.")

    def open(self) -> Lake:
        return open_lake(f"s3://{self.bucket}/{self.prefix}", settings_from(self.s3, "s3"))
