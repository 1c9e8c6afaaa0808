"""The servers as fixtures: each is started once by a pytest process that needs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.gcs import Gcs
from etl_ml_tests.servers.guarded_mongodb import GuardedMongoDB
from etl_ml_tests.servers.http import Http
from etl_ml_tests.servers.kafka import Kafka
from etl_ml_tests.servers.kinesis import Kinesis
from etl_ml_tests.servers.mariadb import MariaDB
from etl_ml_tests.servers.mongodb import MongoDB
from etl_ml_tests.servers.postgresql import PostgreSQL
from etl_ml_tests.servers.process import running, up
from etl_ml_tests.servers.prometheus import Prometheus, PushGateway
from etl_ml_tests.servers.redis import Redis
from etl_ml_tests.servers.s3 import S3


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoDB]:
    with running(MongoDB, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def guarded_mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedMongoDB]:
    with running(GuardedMongoDB, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    with running(MariaDB, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    with running(PostgreSQL, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with running(Redis, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running(S3, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with running(Azurite, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gcs]:
    with running(Gcs, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def dynamodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoDB]:
    with running(DynamoDB, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with running(Kafka, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running(Prometheus, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def kinesis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kinesis]:
    with running(Kinesis, tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def push_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushGateway]:
    with running(PushGateway, tmp_path_factory) as server:
        yield server


@pytest.fixture
def http() -> Iterator[Http]:
    server = Http()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def servers_are_back() -> Iterator[None]:
    """A test that took a server away leaves it running for the next one."""
    yield
    for server in up:
        server.start()
