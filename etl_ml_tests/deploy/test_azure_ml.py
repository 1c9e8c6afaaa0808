"""Azure ML's endpoint: what only it does, against a server that speaks recorded requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from etl_ml.deploy import TargetError, promote
from etl_ml.deploy.azure_ml import AzureMl as Target
from etl_ml.deploy.signing import SIGNING_KEY, new_keys
from etl_ml.lake import Lake, Log
from etl_ml.spec.deployment import AzureMlTarget
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.models import FIRST, SECOND, answering, run, second
from etl_ml_tests.deploy.places import Place, place
from etl_ml_tests.servers.azure_ml import AzureMl
from etl_ml_tests.servers.http import Request, as_json


@pytest.fixture
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    answering(monkeypatch)
    return place("azure_ml", request, tmp_path, monkeypatch)


@pytest.fixture
def front(there: Place) -> AzureMl:
    found: AzureMl = there.front
    return found


def serve_first(lake: Lake, there: Place) -> None:
    assert promote(lake, make_pipeline(), FIRST, targets=[there.target()]).report


def numbers(front: AzureMl) -> list[str]:
    return [name.partition("-")[0] for name in front.deployments("loans")]


def served(front: AzureMl) -> str:
    (name,) = (name for name, share in front.traffic("loans").items() if share)
    return name.partition("-")[0]


def test_a_deployment_answers_by_name_before_it_gets_any_traffic(
    there: Place, front: AzureMl, ready: Lake
) -> None:
    serve_first(ready, there)
    seen: list[tuple[str, str]] = []
    score, put = front._score, front._put

    def asked(request: Request) -> Any:
        seen.append(("asked", request.headers["azureml-model-deployment"].partition("-")[0]))
        assert served(front) == "v1"
        return score(request)

    def moved(path: str, request: Request) -> Any:
        if path == "/onlineEndpoints/loans":
            seen.append(("moved", json.dumps(json.loads(request.body)["properties"]["traffic"])))
        return put(path, request)

    front._score, front._put = asked, moved  # type: ignore[method-assign]
    assert run(ready, second(ready), targets=[there.target()]).report
    (asks, (moves, traffic)) = seen
    assert asks == ("asked", "v2")
    assert (moves, list(json.loads(traffic).values())) == ("moved", [100])
    assert (served(front), numbers(front)) == ("v2", ["v1", "v2"])


def test_what_is_asked_for_is_what_the_service_takes(
    there: Place, front: AzureMl, ready: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = new_keys()
    monkeypatch.setenv(SIGNING_KEY, private)
    there.section |= {"tags": {"team": "risk"}, "port": 5001, "environment": {"A": "b"}}
    assert run(ready, second(ready), targets=[there.target()]).report
    url = there.section["url"].removeprefix("az://").partition("/")[2]
    model = front.resources["/models/loans/versions/2"]["properties"]
    assert model["modelUri"].endswith(
        f"/workspaces/space/datastores/workspaceblobstore/paths/{url}/loans/models/{SECOND}"
    )
    assert model["modelType"] == "custom_model"
    (name,) = front.deployments("loans")
    deployment = front.resources[f"/onlineEndpoints/loans/deployments/{name}"]
    properties = deployment["properties"]
    assert properties["endpointComputeType"] == "Managed"
    assert properties["instanceType"] == "Standard_DS3_v2"
    assert deployment["sku"]["capacity"] == 1
    assert properties["model"].endswith("/models/loans/versions/2")
    assert properties["environmentVariables"] == {"A": "b", "ETL_ML_TRUSTED_KEYS": public}
    assert properties["requestSettings"]["maxConcurrentRequestsPerInstance"] == 100
    (environment,) = (r for p, r in front.resources.items() if p.startswith("/environments/"))
    assert environment["properties"]["image"] == "registry.azurecr.io/etl_ml:1"
    assert environment["properties"]["inferenceConfig"] == {
        "livenessRoute": {"path": "/health/live", "port": 5001},
        "readinessRoute": {"path": "/health/ready", "port": 5001},
        "scoringRoute": {"path": "/score", "port": 5001},
    }
    endpoint = front.resources["/onlineEndpoints/loans"]
    assert endpoint["properties"]["authMode"].lower() == "key"
    head = Log(ready, "loans").head()
    assert head is not None
    assert endpoint["tags"] == {
        "team": "risk",
        "etl_ml_pipeline": "loans",
        "etl_ml_entry": "2",
        "etl_ml_version": SECOND,
        "etl_ml_at": head.at,
    }


def test_a_deployment_that_does_not_come_up_gets_no_traffic_and_a_repeat_heals(
    there: Place, front: AzureMl, ready: Lake
) -> None:
    serve_first(ready, there)
    front.fails = "User container has crashed or terminated."
    done = run(ready, second(ready), targets=[there.target()])
    assert "did not come up, and gets no traffic" in (done.problem or "")
    assert "User container has crashed" in (done.problem or "")
    assert "The champion stays." in (done.problem or "")
    assert served(front) == "v1"
    front.fails = ""
    assert run(ready, second(ready), targets=[there.target()]).report
    assert served(front) == "v2"
    assert len(Log(ready, "loans").entries()) == 2


def test_a_deployment_that_answers_wrongly_gets_no_traffic(
    there: Place, front: AzureMl, ready: Lake
) -> None:
    serve_first(ready, there)
    front.wrong = 1e-3
    done = run(ready, second(ready), targets=[there.target()])
    assert (
        "gets no traffic: the answers to the sample rows differ from training's by up to 0.001"
        in (done.problem or "")
    )
    assert served(front) == "v1"
    assert there.version() == FIRST


def test_the_last_deployment_stays_for_a_rollback_and_older_ones_go(
    there: Place, front: AzureMl, ready: Lake
) -> None:
    serve_first(ready, there)
    assert run(ready, second(ready), targets=[there.target()]).report
    front.calls.clear()
    assert promote(ready, make_pipeline(), FIRST, targets=[there.target()]).report
    assert (served(front), numbers(front)) == ("v1", ["v1", "v2"])
    assert not [path for how, path in front.calls if how == "PUT" and "deployments" in path]
    # On another machine it is another deployment.
    old = set(front.deployments("loans"))
    there.section["instance_type"] = "Standard_F4s_v2"
    serve_first(ready, there)
    assert promote(ready, make_pipeline(), SECOND, targets=[there.target()]).report
    assert (served(front), numbers(front)) == ("v2", ["v1", "v2"])
    assert not old & set(front.deployments("loans"))


def test_a_version_that_waits_for_approval_keeps_its_deployment(
    there: Place, front: AzureMl, ready: Lake
) -> None:
    serve_first(ready, there)
    manual = make_pipeline(deployment={"approval": "manual"})
    done = run(ready, second(ready), manual, targets=[there.target()])
    assert done.report is not None
    assert done.report["champion"] is False
    assert (served(front), numbers(front)) == ("v1", ["v1", "v2"])
    assert promote(ready, make_pipeline(), SECOND, targets=[there.target()]).report
    assert served(front) == "v2"


def test_what_takes_long_is_told_and_a_repeat_goes_on_waiting(
    there: Place, front: AzureMl, ready: Lake
) -> None:
    serve_first(ready, there)
    front.polls = 1_000_000
    done = run(ready, second(ready), targets=[there.target(wait_seconds=1)])
    assert "after 1 s the request is still" in (done.problem or "")
    assert "which goes on waiting" in (done.problem or "")
    done = run(ready, second(ready), targets=[there.target(wait_seconds=1)])
    assert "v2-" in (done.problem or "")
    assert "is still Creating" in (done.problem or "")
    front.polls = 0
    front.hasten()
    assert run(ready, second(ready), targets=[there.target()]).report
    assert served(front) == "v2"


def test_traffic_that_a_person_has_moved_is_left_and_told(
    there: Place, front: AzureMl, ready: Lake
) -> None:
    serve_first(ready, there)
    assert run(ready, second(ready), targets=[there.target()]).report
    one, two = front.deployments("loans")
    endpoint = front.resources["/onlineEndpoints/loans"]["properties"]
    endpoint["traffic"] = {one: 90, two: 10}
    with pytest.raises(TargetError, match="its traffic was moved by others") as caught:
        promote(ready, make_pipeline(), FIRST, targets=[there.target()])
    assert f"'{one}': 90" in str(caught.value)
    assert "to the deployment of version 2 again" in str(caught.value)
    assert endpoint["traffic"] == {one: 90, two: 10}


def test_an_endpoint_of_others_is_refused_before_any_work(
    there: Place, front: AzureMl, ready: Lake
) -> None:
    serve_first(ready, there)
    front.resources["/onlineEndpoints/loans"]["tags"] = {}
    names = there.names()
    with pytest.raises(TargetError, match="the endpoint was made by others"):
        run(ready, second(ready), targets=[there.target()])
    assert there.names() == names


def test_a_datastore_of_another_container_is_told_before_any_work(
    there: Place, front: AzureMl, ready: Lake
) -> None:
    front.container = "another"
    done = run(ready, second(ready), targets=[there.target()])
    assert "the datastore workspaceblobstore is of container another" in (done.problem or "")
    assert not [name for name in there.names() if "models/" in name]
    assert front.resources == {}


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (401, "InvalidAuthenticationToken", "the credentials are refused, or there are none"),
        (403, "AuthorizationFailed", "the credentials may not do this"),
        (409, "Conflict", "Azure refuses it"),
    ],
)
def test_what_azure_refuses_is_told_with_what_it_says(
    there: Place, front: AzureMl, status: int, code: str, told: str
) -> None:
    said = "The client 'me' does not have authorization.\nTrace: 00-1"
    error = {"error": {"code": code, "message": said}}
    front._get = lambda path, request: as_json(error, status)  # type: ignore[method-assign]
    with pytest.raises(TargetError, match=told) as caught:
        there.target().current()
    message = str(caught.value)
    assert "azure_ml target: the endpoint cannot be read" in message
    assert f"({code}) The client 'me' does not have authorization." in message
    assert "azureml://space/loans" in message
    assert not [secret for secret in there.secrets if secret in message]


def test_a_workspace_that_is_not_there_is_told(there: Place, ready: Lake) -> None:
    there.section["workspace"] = "nowhere"
    done = run(ready, second(ready), targets=[there.target()])
    assert "the datastore cannot be read: there is no such thing" in (done.problem or "")
    assert "workspace or datastore" in (done.problem or "")


def test_without_credentials_it_says_how_to_sign_in(
    there: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(
        "azure.identity._credentials.imds.ImdsCredential.get_token", _unavailable, raising=True
    )
    with pytest.raises(TargetError, match="there are none") as caught:
        there.target().current()
    assert "az login" in str(caught.value)


def _unavailable(*arguments: Any, **options: Any) -> Any:
    from azure.identity import CredentialUnavailableError

    raise CredentialUnavailableError("no managed identity here")


def test_the_endpoints_key_is_not_left_for_whoever_asks_next(there: Place, ready: Lake) -> None:
    serve_first(ready, there)
    from azure.ai.ml.constants._endpoint import EndpointInvokeFields

    assert "authorization" not in {name.lower() for name in EndpointInvokeFields.DEFAULT_HEADER}


def test_loading_a_target_imports_nothing_of_azure_ml(there: Place) -> None:
    import subprocess
    import sys

    code = (
        "import sys, json\n"
        "from etl_ml.deploy import open_target\n"
        "from etl_ml.spec.deployment import AzureMlTarget\n"
        "section = AzureMlTarget.model_validate(json.loads(sys.argv[1]))\n"
        "open_target(section, 'loans')\n"
        "print([name for name in sys.modules if name.startswith('azure.ai')])"
    )
    command = [sys.executable, "-c", code, json.dumps(there.section)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_its_name_says_workspace_and_endpoint(there: Place) -> None:
    section = AzureMlTarget.model_validate(there.section | {"endpoint_name": "scores"})
    assert Target(section, "loans").url == "azureml://space/scores"
    assert section.display == "Azure ML endpoint space/scores"
