"""One target of each kind that has a server here, and a way to look at it without etl_ml."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from etl_ml.deploy import Package, Target, open_target
from etl_ml.deploy.archive import NAME
from etl_ml.spec import Pipeline
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.servers.azure_ml import SUBSCRIPTION, AzureMl
from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.gcs import Gcs
from etl_ml_tests.servers.http import Http
from etl_ml_tests.servers.s3 import S3
from etl_ml_tests.servers.sagemaker import SageMaker, unpacked
from etl_ml_tests.servers.scoring import opened

FOLDERS = ("file", "s3", "azure_blob", "gcs")
ENDPOINTS = ("sagemaker", "azure_ml")
KINDS = (*FOLDERS, *ENDPOINTS)
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/etl_ml:1"
ROLE = "arn:aws:iam::123456789012:role/sagemaker"

_numbers = count()
_buckets: dict[tuple[str, int], str] = {}


@dataclass
class Place:
    """A target.

    Attributes
    ----------
    section : of `deployment.targets`
    read, write, names, remove : its objects, by names under its URL
    served : the files of what is served
    environment : for clients of it
    secrets : what may be shown nowhere
    front : what stands before the server, where something does
    name : of the pipeline
    """

    section: dict[str, Any]
    read: Callable[[str], bytes]
    write: Callable[[str, bytes], object]
    names: Callable[[], list[str]]
    remove: Callable[[str], object]
    served: Callable[[], Mapping[str, bytes] | None] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    front: Any = None
    name: str = "loans"

    @property
    def kind(self) -> str:
        return str(self.section["type"])

    @property
    def pipeline(self) -> Pipeline:
        return make_pipeline(deployment={"targets": [self.section]})

    def target(self, **changed: Any) -> Target:
        (section,) = make_pipeline(
            deployment={"targets": [self.section | changed]}
        ).deployment.targets
        return open_target(section, "loans")

    def champion(self) -> Package | None:
        """What is served, found without etl_ml's targets."""
        if self.served is not None:
            files = self.served()
            return opened(files) if files is not None else None
        entries = sorted(n for n in self.names() if n.startswith(f"{self.name}/champions/"))
        if not entries:
            return None
        return opened(self.files(json.loads(self.read(entries[-1]))["version"]))

    def version(self) -> str | None:
        """Which version is served."""
        package = self.champion()
        return package.version if package else None

    def files(self, version: str) -> dict[str, bytes]:
        """The files of an uploaded package."""
        folder = f"{self.name}/models/{version}/"
        if self.kind == "sagemaker":
            return unpacked(self.read(folder + NAME))
        found = [name for name in self.names() if name.startswith(folder)]
        return {name.removeprefix(folder): self.read(name) for name in found}

    def change(self, version: str, files: Mapping[str, bytes | None]) -> None:
        """Change files of an uploaded package behind its back; None removes one."""
        folder = f"{self.name}/models/{version}/"
        if self.kind == "sagemaker":
            kept = {**self.files(version), **files}
            self.write(folder + NAME, _packed({n: d for n, d in kept.items() if d is not None}))
            return
        for name, data in files.items():
            if data is None:
                self.remove(folder + name)
            else:
                self.write(folder + name, data)


def _packed(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed.getvalue())


def place(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, patch: pytest.MonkeyPatch
) -> Place:
    """A fresh place of a kind; the environment is set for it."""
    found: Place = {
        "file": _file,
        "s3": _s3,
        "azure_blob": _azure_blob,
        "gcs": _gcs,
        "sagemaker": _sagemaker,
        "azure_ml": _azure_ml,
    }[kind](request, tmp_path, patch)
    for name, value in found.environment.items():
        patch.setenv(name, value)
    return found


def _file(request: pytest.FixtureRequest, tmp_path: Path, patch: pytest.MonkeyPatch) -> Place:
    root = tmp_path / "target"

    def write(name: str, data: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    return Place(
        {"type": "file", "url": str(root)},
        read=lambda name: (root / name).read_bytes(),
        write=write,
        names=lambda: sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()),
        remove=lambda name: (root / name).unlink(),
    )


def _bucket(kind: str, server: Any) -> str:
    """One for all tests, where a prefix is each one's own."""
    key = (kind, id(server))
    if key not in _buckets:
        _buckets[key] = server.container() if kind == "azure" else server.bucket()
    return _buckets[key]


def _s3(request: pytest.FixtureRequest, tmp_path: Path, patch: pytest.MonkeyPatch) -> Place:
    server: S3 = request.getfixturevalue("s3")
    objects = _s3_objects(server.client(), _bucket("s3", server))
    return Place(
        {"type": "s3", "url": objects.pop("url")},
        **objects,
        environment=server.environment,
        secrets=(server.secret,),
    )


def _s3_objects(client: Any, bucket: str) -> dict[str, Any]:
    prefix = f"models{next(_numbers)}"

    def names() -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return sorted(key.removeprefix(f"{prefix}/") for key in keys)

    def at(name: str) -> dict[str, str]:
        return {"Bucket": bucket, "Key": f"{prefix}/{name}"}

    return {
        "url": f"s3://{bucket}/{prefix}",
        "read": lambda name: client.get_object(**at(name))["Body"].read(),
        "write": lambda name, data: client.put_object(**at(name), Body=data),
        "names": names,
        "remove": lambda name: client.delete_object(**at(name)),
    }


def _azure_blob(request: pytest.FixtureRequest, tmp_path: Path, patch: pytest.MonkeyPatch) -> Place:
    server: Azurite = request.getfixturevalue("azurite")
    objects = _blobs(server, _bucket("azure", server))
    return Place(
        {"type": "azure_blob", "url": objects.pop("url")},
        **objects,
        environment=server.environment,
        secrets=(server.key,),
    )


def _blobs(server: Azurite, container: str) -> dict[str, Any]:
    prefix = f"models{next(_numbers)}"
    client = server.client().get_container_client(container)
    return {
        "url": f"az://{container}/{prefix}",
        "read": lambda name: client.download_blob(f"{prefix}/{name}").readall(),
        "write": lambda name, data: client.upload_blob(f"{prefix}/{name}", data, overwrite=True),
        "names": lambda: sorted(
            blob.name.removeprefix(f"{prefix}/") for blob in client.list_blobs(f"{prefix}/")
        ),
        "remove": lambda name: client.delete_blob(f"{prefix}/{name}"),
    }


def _gcs(request: pytest.FixtureRequest, tmp_path: Path, patch: pytest.MonkeyPatch) -> Place:
    server: Gcs = request.getfixturevalue("gcs")
    bucket, prefix = _bucket("gcs", server), f"models{next(_numbers)}"
    objects = f"{server.url}/storage/v1/b/{bucket}/o"

    def ask(url: str, method: str = "GET") -> bytes:
        asked = urllib.request.Request(url, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return bytes(answer.read())

    def at(name: str) -> str:
        return f"{objects}/{urllib.parse.quote(f'{prefix}/{name}', safe='')}"

    def names() -> list[str]:
        found = json.loads(ask(f"{objects}?prefix={prefix}/")).get("items", [])
        return sorted(item["name"].removeprefix(f"{prefix}/") for item in found)

    return Place(
        {"type": "gcs", "url": f"gs://{bucket}/{prefix}"},
        read=lambda name: ask(f"{at(name)}?alt=media"),
        write=lambda name, data: server.put(bucket, f"{prefix}/{name}", data),
        names=names,
        remove=lambda name: ask(at(name), "DELETE"),
        environment={"STORAGE_EMULATOR_HOST": server.url},
    )


def _sagemaker(request: pytest.FixtureRequest, tmp_path: Path, patch: pytest.MonkeyPatch) -> Place:
    moto: DynamoDB = request.getfixturevalue("dynamodb")
    front = SageMaker(moto)
    request.addfinalizer(front.close)
    key = ("sagemaker", id(moto))
    if key not in _buckets:
        moto.client("s3").create_bucket(Bucket="models")
        _buckets[key] = "models"
    objects = _s3_objects(moto.client("s3"), _buckets[key])
    name = f"loans-{next(_numbers)}"
    patch.setattr("etl_ml.deploy.sagemaker._POLL_SECONDS", 0.01)
    return Place(
        {
            "type": "sagemaker",
            "url": objects.pop("url"),
            "endpoint_name": name,
            "image": IMAGE,
            "role_arn": ROLE,
            "endpoint": front.endpoint,
        },
        **objects,
        served=lambda: front.served(name),
        environment={k: v for k, v in moto.environment.items() if k != "AWS_ENDPOINT_URL"},
        secrets=(moto.environment["AWS_SECRET_ACCESS_KEY"],),
        front=front,
    )


def _azure_ml(request: pytest.FixtureRequest, tmp_path: Path, patch: pytest.MonkeyPatch) -> Place:
    server: Azurite = request.getfixturevalue("azurite")
    http = Http()
    request.addfinalizer(http.close)
    container = _bucket("azure", server)
    front = AzureMl(server, container, http)
    front.instead_of_azure(patch)
    objects = _blobs(server, container)
    patch.setattr("etl_ml.deploy.azure_ml._POLL_SECONDS", 0.01)
    return Place(
        {
            "type": "azure_ml",
            "url": objects.pop("url"),
            "subscription_id": SUBSCRIPTION,
            "resource_group": "group",
            "workspace": "space",
            "endpoint_name": "loans",
            "image": "registry.azurecr.io/etl_ml:1",
        },
        **objects,
        served=lambda: front.served("loans"),
        environment=server.environment | front.environment,
        secrets=(server.key, *front.secrets),
        front=front,
    )
