"""SageMaker's endpoint: what only it does. What moto lacks is in `servers/sagemaker.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from etl_ml.deploy import Pointer, TargetError, open_package, promote
from etl_ml.deploy.sagemaker import SageMaker as Target
from etl_ml.deploy.signing import SIGNING_KEY, new_keys
from etl_ml.lake import Lake, Log
from etl_ml.spec.deployment import SageMakerTarget
from etl_ml.spec.error import EtlMlError
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.models import FIRST, SECOND, answering, run, second
from etl_ml_tests.deploy.places import IMAGE, ROLE, Place, place
from etl_ml_tests.servers.http import Http, as_json
from etl_ml_tests.servers.sagemaker import SageMaker


@pytest.fixture
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    answering(monkeypatch)
    return place("sagemaker", request, tmp_path, monkeypatch)


@pytest.fixture
def front(there: Place) -> SageMaker:
    found: SageMaker = there.front
    return found


def serve_first(lake: Lake, there: Place) -> None:
    assert promote(lake, make_pipeline(), FIRST, targets=[there.target()]).report


def test_a_change_is_waited_for_and_made_blue_green(
    there: Place, front: SageMaker, ready: Lake
) -> None:
    front.polls = 3
    serve_first(ready, there)
    assert front.calls.count("CreateEndpoint") == 1
    assert run(ready, second(ready), targets=[there.target()]).report
    assert there.version() == SECOND
    (update,) = front.updates
    assert update["DeploymentConfig"] == {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
            "MaximumExecutionTimeoutInSeconds": 1800,
        }
    }
    assert front.calls[-3:] == ["DescribeEndpoint", "InvokeEndpoint", "DescribeEndpoint"]


def test_alarms_are_watched_and_roll_back(there: Place, front: SageMaker, ready: Lake) -> None:
    there.section |= {"alarms": ["errors", "latency"], "bake_seconds": 120}
    serve_first(ready, there)
    assert run(ready, second(ready), targets=[there.target()]).report
    (update,) = front.updates
    policy = update["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert policy["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"] == 120
    alarms = update["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert alarms == [{"AlarmName": "errors"}, {"AlarmName": "latency"}]


def test_an_update_that_is_rolled_back_is_told_and_a_repeat_heals(
    there: Place, front: SageMaker, ready: Lake
) -> None:
    serve_first(ready, there)
    front.ends = ["rolled back"]
    done = run(ready, second(ready), targets=[there.target()])
    assert "1 target is behind" in (done.problem or "")
    assert f"version {SECOND} did not come into service" in (done.problem or "")
    assert there.version() == FIRST
    again = run(ready, second(ready), targets=[there.target()])
    assert again.report, again.problem
    assert there.version() == SECOND
    assert len(Log(ready, "loans").entries()) == 2


def test_an_endpoint_that_could_not_be_made_says_why_and_is_made_anew(
    there: Place, front: SageMaker, ready: Lake
) -> None:
    front.ends = ["failed"]
    done = promote(ready, make_pipeline(), FIRST, targets=[there.target()])
    assert f"could not be made for version {FIRST}; nothing is served there" in (done.problem or "")
    assert "seen      No such image." in (done.problem or "")
    assert there.target().current() is None
    serve_first(ready, there)
    assert front.calls.count("DeleteEndpoint") == 1
    assert there.version() == FIRST


def test_an_endpoint_that_answers_wrongly_goes_back(
    there: Place, front: SageMaker, ready: Lake
) -> None:
    front.wrong = 1e-3
    done = promote(ready, make_pipeline(), FIRST, targets=[there.target()])
    assert "differ from training's by up to 0.001" in (done.problem or "")
    assert "The endpoint was deleted; nothing is served there." in (done.problem or "")
    assert there.version() is None
    front.wrong = 0.0
    serve_first(ready, there)
    front.wrong = 1e-3
    done = run(ready, second(ready), targets=[there.target()])
    assert "The endpoint was taken back, and serves" in (done.problem or "")
    assert there.version() == FIRST
    assert there.target().current() == Pointer(1, FIRST, Log(ready, "loans").entries()[0].at)


def test_where_the_image_speaks_otherwise_the_endpoint_is_not_asked(
    there: Place, front: SageMaker, ready: Lake
) -> None:
    there.section["verify"] = False
    serve_first(ready, there)
    assert "InvokeEndpoint" not in front.calls


def test_a_push_that_was_killed_while_the_endpoint_changes_is_waited_for(
    there: Place, front: SageMaker, ready: Lake
) -> None:
    serve_first(ready, there)
    front.polls = 1_000_000
    done = run(ready, second(ready), targets=[there.target(wait_seconds=1)])
    assert "after 1 s the endpoint is still Updating" in (done.problem or "")
    assert there.target().current() == Pointer(1, FIRST, Log(ready, "loans").entries()[0].at)
    front.hasten()
    assert run(ready, second(ready), targets=[there.target()]).report
    assert there.version() == SECOND
    assert len(front.updates) == 1


def test_another_push_that_is_first_is_waited_for_and_its_later_entry_stays(
    there: Place, front: SageMaker, ready: Lake
) -> None:
    serve_first(ready, there)
    first = Log(ready, "loans").entries()[0]
    assert run(ready, second(ready)).report
    assert promote(ready, make_pipeline(), FIRST).report
    entries = Log(ready, "loans").entries()
    older, newer = (Pointer(int(e.entry), e.version, e.at) for e in entries[1:])
    target = there.target()
    target.upload(open_package(ready, "loans", SECOND))
    rival = there.target()
    assert isinstance(rival, Target)
    make = rival._make
    front.polls = 3
    crossed = []

    def crossing(config: str, version: str) -> None:
        make(config, version)
        if not crossed:
            crossed.append(config)
            assert isinstance(target, Target)
            target._make(target._config(newer), newer.version)
            target._turn(target._config(newer), target._described())

    rival._make = crossing  # type: ignore[method-assign]
    rival.point(older)
    assert crossed
    assert there.target().current() == newer
    assert first.version == there.version() == FIRST


def test_an_endpoint_of_others_is_refused_before_any_work(
    there: Place, front: SageMaker, ready: Lake
) -> None:
    client = front.moto.client("sagemaker")
    container = {"Image": IMAGE, "ModelDataUrl": "s3://models/other.tar.gz"}
    client.create_model(ModelName="other", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "v", "ModelName": "other", "InitialInstanceCount": 1}
    client.create_endpoint_config(
        EndpointConfigName="other", ProductionVariants=[variant | {"InstanceType": "ml.m5.large"}]
    )
    name = there.section["endpoint_name"]
    client.create_endpoint(EndpointName=name, EndpointConfigName="other")
    with pytest.raises(TargetError, match="'other', which is no configuration of etl_ml"):
        run(ready, second(ready), targets=[there.target()])
    assert there.names() == []
    assert client.describe_endpoint(EndpointName=name)["EndpointConfigName"] == "other"


def test_another_machine_is_another_configuration_of_the_same_entry(
    there: Place, front: SageMaker, ready: Lake
) -> None:
    serve_first(ready, there)
    there.section["instance_type"] = "ml.c5.xlarge"
    serve_first(ready, there)
    assert len(front.updates) == 1
    assert there.target().current() == Pointer(1, FIRST, Log(ready, "loans").entries()[0].at)
    described = front.moto.client("sagemaker").describe_endpoint_config(
        EndpointConfigName=front.updates[0]["EndpointConfigName"]
    )
    assert described["ProductionVariants"][0]["InstanceType"] == "ml.c5.xlarge"


def test_the_container_is_told_whose_signatures_it_trusts_and_no_secret(
    there: Place, front: SageMaker, ready: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = new_keys()
    monkeypatch.setenv(SIGNING_KEY, private)
    there.section["environment"] = {"ETL_ML_SERVE_LOG": "info"}
    there.section["tags"] = {"team": "risk"}
    assert run(ready, second(ready), targets=[there.target()]).report
    client = front.moto.client("sagemaker")
    (model,) = (m for m in client.list_models()["Models"] if _of(there, m["ModelName"]))
    described = client.describe_model(ModelName=model["ModelName"])
    assert described["PrimaryContainer"]["Environment"] == {
        "ETL_ML_TRUSTED_KEYS": public,
        "ETL_ML_SERVE_LOG": "info",
    }
    assert described["ExecutionRoleArn"] == ROLE
    tags = {t["Key"]: t["Value"] for t in client.list_tags(ResourceArn=model["ModelArn"])["Tags"]}
    assert tags == {"team": "risk", "etl_ml:pipeline": "loans", "etl_ml:version": SECOND}


def _of(there: Place, model: str) -> bool:
    return model.startswith(f"{there.section['endpoint_name']}-v")


@pytest.mark.parametrize("name", ["a", "A" * 63, "a-b--c", f"{'x' * 40}-{'y' * 20}"])
def test_names_are_ones_that_aws_takes_and_say_which_entry_they_are_of(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = made(endpoint_name=name)
    seen = set()
    for entry, version in ((1, FIRST), (123_456, "0000999999"), (123_456, "0000999998")):
        for at in ("2026-11-25T02:32:21.656+00:00", "2026-11-25T02:32:21.657+00:00"):
            pointer = Pointer(entry, version, at)
            config = target._config(pointer)
            seen.add(config)
            for made_up in (config, target._model(version)):
                assert len(made_up) <= 63
                assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", made_up)
            assert target._pointer(config) == pointer
    assert len(seen) == 6


def made(**changed: Any) -> Target:
    keys = {"url": "s3://models/x", "image": IMAGE, "role_arn": ROLE, "region": "us-east-1"}
    given: dict[str, Any] = {"type": "sagemaker", **keys, **changed}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "a")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
        return Target(SageMakerTarget.model_validate(given), "loans")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("AccessDeniedException", "the credentials may not do this"),
        ("ExpiredTokenException", "the credentials have expired"),
        ("UnrecognizedClientException", "the credentials are refused"),
        ("InvalidSignatureException", "the credentials are refused"),
        ("ResourceLimitExceeded", "the account's limit is reached"),
        ("ValidationException", "AWS refuses it"),
    ],
)
def test_what_aws_refuses_is_told_with_what_it_says(http: Http, code: str, told: str) -> None:
    said = "User: arn:aws:iam::1:user/me is not authorized.\nThe canonical string: x-amz-token"
    http.routes["/"] = lambda request: as_json({"__type": code, "message": said}, 400)
    with pytest.raises(TargetError, match=told) as caught:
        made(endpoint=http.url).current()
    message = str(caught.value)
    assert message.startswith("sagemaker target: the endpoint cannot be read: ")
    assert "sagemaker://us-east-1/loans" in message
    assert f"{code}: User: arn:aws:iam::1:user/me is not authorized." in message
    assert "canonical" not in message
    assert "the-secret" not in message


def test_without_region_credentials_or_network_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr("etl_ml.deploy.aws._ATTEMPTS", 1)
    with pytest.raises(TargetError, match="there is no such region"):
        made(region=None)
    with pytest.raises(TargetError, match="the endpoint is no URL"):
        made(endpoint="localhost:9")
    with pytest.raises(TargetError, match="AWS cannot be reached"):
        made(endpoint="http://127.0.0.1:9").current()


def test_there_are_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    keys = {"url": "s3://models/x", "image": IMAGE, "role_arn": ROLE, "region": "us-east-1"}
    section = SageMakerTarget.model_validate({"type": "sagemaker", **keys})
    with pytest.raises(EtlMlError, match="there are no AWS credentials"):
        Target(section, "loans")


def test_an_answer_that_is_not_the_services_is_told(
    there: Place, front: SageMaker, ready: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_first(ready, there)
    monkeypatch.setattr("etl_ml_tests.servers.sagemaker.answer", _other_version)
    done = promote(ready, make_pipeline(), FIRST, targets=[there.target()])
    assert "version 0000000001 was to answer the sample rows, and 7 did" in (done.problem or "")
    assert "it did before" in (done.problem or "")


def _other_version(files: Any, body: bytes) -> bytes:
    rows = json.loads(body)["rows"]
    return json.dumps({"version": "7", "probabilities": [[0.5, 0.5]] * len(rows)}).encode()
