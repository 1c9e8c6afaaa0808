"""The OpenAPI document is complete and true: schemathesis finds nothing, and its examples work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl_ml.lake import open_lake
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import Project
from etl_ml_tests.serve.conftest import deployed
from etl_ml_tests.serve.frames import ACCOUNTS, accounts
from etl_ml_tests.serve.serving import Serving, serving


@pytest.fixture(scope="module")
def every_type(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A model of columns of every type, with and without nulls and rules."""
    lake = open_lake(tmp_path_factory.mktemp("accounts") / "lake")
    deployed(lake, make_pipeline(**ACCOUNTS), accounts())
    with serving(lake.url, "accounts") as running:
        yield running


@pytest.fixture(scope="module")
def phishing(demo: Project) -> Iterator[Serving]:
    with serving(demo.lake.url, "phishing") as running:
        yield running


def fuzzed(service: Serving, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "schemathesis", "run", "--checks", "all"]
    command += [f"http://127.0.0.1:{service.port}/openapi.json", "--seed", "1", "-n", "20"]
    return subprocess.run(
        [*map(str, command), "--no-color", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("which", ["every_type", "phishing"])
def test_schemathesis_finds_nothing(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    service: Serving = request.getfixturevalue(which)
    done = fuzzed(service, tmp_path)
    assert done.returncode == 0, done.stdout[-5_000:]
    assert "Selected: 17/17" in done.stdout
    assert service.metric("etl_ml_serve_refused_total", reason="failed") == 0


def test_schemathesis_finds_nothing_where_a_token_is_asked_for(
    loans_lake: Path, tmp_path: Path
) -> None:
    token = "a token of the test's own"
    with serving(loans_lake, "loans", extra={"ETL_ML_SERVE_TOKEN": token}) as service:
        header = f"Authorization: Bearer {token}"
        done = fuzzed(service, tmp_path, "-H", header, "--phases", "examples,coverage")
        assert done.returncode == 0, done.stdout[-5_000:]


def test_the_examples_are_rows_of_the_sample_and_are_answered(every_type: Serving) -> None:
    document = every_type.get("/openapi.json").json
    told = document["paths"]["/invocations"]["post"]["requestBody"]["content"]
    answers = [
        every_type.post(example["value"]).json["probabilities"]
        for example in told["application/json"]["examples"].values()
    ]
    table = every_type.post(told["text/csv"]["example"].encode(), kind="text/csv")
    assert len(answers) == 3
    assert all(answer == table.json["probabilities"] for answer in answers)
    path = "/v2/models/{model}/infer"
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    tensors = every_type.post(body, path.format(model="accounts")).json["outputs"][1]
    assert tensors["data"] == [share for row in answers[0] for share in row]


def test_every_route_is_in_the_document(service: Serving) -> None:
    paths = set(service.get("/openapi.json").json["paths"])
    assert paths == {
        "/invocations",
        "/score",
        "/ping",
        "/health/live",
        "/health/ready",
        "/version",
        "/schema",
        "/metrics",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model}",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}",
        "/v2/models/{model}/versions/{version}/ready",
        "/v2/models/{model}/versions/{version}/infer",
    }


def row_schema(service: Serving) -> Any:
    return service.get("/openapi.json").json["components"]["schemas"]["Row"]


def test_a_row_is_described_as_the_contract_says(service: Serving) -> None:
    schema = row_schema(service)
    assert schema["required"] == ["age", "income", "country", "opened"]
    assert schema["additionalProperties"] is False
    age, null = schema["properties"]["age"]["anyOf"]
    assert (age, null) == ({"type": "integer", "minimum": 18, "maximum": 100}, {"type": "null"})
    assert {"enum": ["DE", "FR", "IT"]} in schema["properties"]["country"]["anyOf"]
    assert json.dumps(schema)
