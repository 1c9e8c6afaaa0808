"""The targets in `examples/` that are a user's own, run by a pipeline."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from etl_ml.deploy import open_target
from etl_ml.lake import Log
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import Project, attributes, failure_message
from etl_ml_tests.servers.gcs import Gcs
from etl_ml_tests.servers.http import Answer, Http, Request, as_json
from etl_ml_tests.servers.scoring import answer, opened

EXAMPLES = Path(__file__).parents[1] / "examples"
FIRST, SECOND = "0000000001", "0000000002"


@pytest.fixture
def beside(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project with the modules of the examples beside its pyproject.toml."""
    names = {"http_registry": "custom_target", "cloud_run": "deploy_cloud_run"}
    for module, folder in names.items():
        shutil.copy(EXAMPLES / folder / f"{module}.py", project.root)
    monkeypatch.syspath_prepend(str(project.root))
    yield project
    for module in names:
        sys.modules.pop(module, None)


def materialized(project: Project, target: dict[str, Any], *assets: str) -> None:
    project.add(attributes(deployment={"targets": [target]}))
    result = project.materialize(*assets)
    assert result.success, failure_message(result)


@dataclass
class Registry:
    """What the example says that its registry does."""

    http: Http
    token: str
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.http.fallback = self._answer

    def _answer(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {}, b""
        path = request.path.removeprefix("/models/")
        if request.method == "PUT":
            if request.headers.get("if-none-match") == "*" and path in self.files:
                return 412, {}, b""
            self.files[path] = request.body
            return 201, {}, b""
        if path.endswith("/"):
            below = [name.removeprefix(path) for name in self.files if name.startswith(path)]
            return as_json(below) if below else (404, {}, b"")
        return (200, {}, self.files[path]) if path in self.files else (404, {}, b"")


def test_a_registry_over_http_is_a_target_like_any_other(beside: Project, http: Http) -> None:
    registry = Registry(http, "hunter2")
    target = {
        "type": "http_registry:HttpRegistry",
        "url": f"{http.url}/models/",
        "token": "hunter2",
    }
    materialized(beside, target)
    report = beside.lake.read("loans", "deployed_model", "deployment_report.json")
    (told, _) = report["targets"]
    assert (told["type"], told["verified"]) == ("http_registry", True)
    assert told["max_abs_difference"] <= 1e-6
    assert "hunter2" not in json.dumps(report)
    pointer = json.loads(registry.files["loans/champions/0000000001.json"])
    assert (pointer["entry"], pointer["version"]) == (1, FIRST)
    folder = f"loans/models/{FIRST}/"
    served = {n.removeprefix(folder): d for n, d in registry.files.items() if folder in n}
    assert opened(served).version == FIRST

    materialized(beside, target)
    assert "loans/champions/0000000002.json" in registry.files

    registry.files[f"loans/models/{SECOND}/model.skops"] = b"not what was packed"
    result = beside.materialize("deployed_model")
    assert result.success, failure_message(result)  # it is the champion, and restored
    assert registry.files[f"loans/models/{SECOND}/model.skops"] != b"not what was packed"


def test_a_registry_that_refuses_or_is_away_keeps_the_champion(beside: Project, http: Http) -> None:
    Registry(http, "another")
    target = {"type": "http_registry:HttpRegistry", "url": http.url, "token": "hunter2"}
    beside.add(attributes(deployment={"targets": [target]}))
    result = beside.materialize()
    assert not result.success
    message = failure_message(result)
    assert (
        "http_registry target: loans/champions/: the registry refuses it with status 401" in message
    )
    assert "hunter2" not in message
    assert Log(beside.lake, "loans").head() is None
    http.close()
    result = beside.materialize("deployed_model")
    assert "the registry does not answer: ConnectionError" in failure_message(result)


@dataclass
class Run:
    """As much of Cloud Run as the example uses: one service, its revisions and tags."""

    http: Http
    gcs: Gcs
    wrong: float = 0.0
    service: dict[str, Any] = field(default_factory=dict)
    templates: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.http.fallback = self._answer

    @property
    def served(self) -> str:
        (revision,) = (t["revision"] for t in self.service["traffic"] if t.get("percent") == 100)
        return str(revision).split("-")[-2]

    def _answer(self, request: Request) -> Answer:
        if request.path.startswith("/tags/"):
            return self._score(request.path.split("/")[2], request.body)
        if request.method == "GET":
            return as_json(self.service) if self.service else as_json({}, 404)
        document = request.json()
        if document.get("etag") != self.service.get("etag"):
            return as_json({"error": {"message": "etag is not the service's"}}, 409)
        template = document["template"]
        known = self.templates.setdefault(template["revision"], template)
        assert known == template  # a revision is never changed
        document["etag"] = str(int(self.service.get("etag", "0")) + 1)
        document["uri"] = f"{self.http.url}/service"
        document["trafficStatuses"] = [
            {**each, "uri": f"{self.http.url}/tags/{each.get('tag')}"}
            for each in document["traffic"]
        ]
        self.service = document
        return as_json({"name": "operations/1", "done": True})

    def _score(self, tag: str, body: bytes) -> Answer:
        self.asked.append(tag)
        (revision,) = (t["revision"] for t in self.service["traffic"] if t.get("tag") == tag)
        (container,) = self.templates[revision]["containers"]
        (volume,) = self.templates[revision]["volumes"]
        mounted = container["env"][0]["value"].removeprefix("/models/")
        files = self.gcs.files(volume["gcs"]["bucket"], f"{mounted}/")
        document = json.loads(answer(files, body))
        said = [[p + self.wrong for p in row] for row in document["probabilities"]]
        return as_json(document | {"probabilities": said})


def test_cloud_run_serves_what_has_answered_under_its_tag(
    beside: Project, http: Http, gcs: Gcs
) -> None:
    run, bucket = Run(http, gcs), gcs.bucket()
    target = {
        "type": "cloud_run:CloudRun",
        "url": f"gs://{bucket}/served",
        "project": "example",
        "region": "europe-west1",
        "image": "europe-docker.pkg.dev/example/models/etl_ml:1",
        "endpoint": http.url,
        "storage": gcs.url,
    }
    materialized(beside, target)
    assert (run.served, run.asked) == ("v1", ["v1"])
    materialized(beside, target)
    assert (run.served, run.asked) == ("v2", ["v1", "v2"])
    done = beside.command("etl-ml", "rollback", "loans")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.served == "v1"
    assert run.service["annotations"]["etl-ml.dev/entry"] == "3"

    run.wrong = 1e-3
    done = beside.command("etl-ml", "promote", "loans", "2")
    assert done.returncode
    assert "differ from training's by up to 0.001" in done.stdout + done.stderr
    assert run.served == "v1"

    (section,) = make_pipeline(deployment={"targets": [target]}).deployment.targets
    assert open_target(section, "loans").current() is not None
    for version in (FIRST, SECOND):
        assert opened(gcs.files(bucket, f"served/loans/models/{version}/")).version == version
