"""SageMaker: moto, and what moto lacks: updates that take time and fail, endpoints that answer.

moto makes models, configurations and endpoints, and has S3. It makes a thing twice, does not update
endpoints and answers every invocation with one word; here these are as AWS documents them.
"""

from __future__ import annotations

import io
import json
import tarfile
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from etl_ml_tests.servers.dynamodb import DynamoDB
from etl_ml_tests.servers.http import Answer, Request, as_json
from etl_ml_tests.servers.proxy import Proxy
from etl_ml_tests.servers.scoring import answer

_MAKES = {
    "CreateModel": ("describe_model", "ModelName"),
    "CreateEndpointConfig": ("describe_endpoint_config", "EndpointConfigName"),
    "CreateEndpoint": ("describe_endpoint", "EndpointName"),
}


@dataclass
class SageMaker:
    """A front of moto.

    Attributes
    ----------
    polls : how often an endpoint is described until a change of it is done
    ends : what becomes of changes, in their order: `served`, `rolled back`, `failed`; then `served`
    wrong : how far the containers' answers are off
    calls : the names of all actions that were asked for
    """

    moto: DynamoDB
    polls: int = 0
    ends: list[str] = field(default_factory=list)
    wrong: float = 0.0
    calls: list[str] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.proxy = Proxy(self.moto.port)
        self.proxy.own = self._own
        self._control = self.moto.client("sagemaker")
        self._under_way: dict[str, dict[str, Any]] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    def close(self) -> None:
        self.proxy.close()

    def hasten(self) -> None:
        """Whatever is under way is done when it is looked at again."""
        for change in self._under_way.values():
            change["left"] = 0

    def served(self, name: str) -> dict[str, bytes] | None:
        """The files that an endpoint's container was given; None where there is no endpoint."""
        if not self._there("describe_endpoint", EndpointName=name):
            return None
        config = self._control.describe_endpoint(EndpointName=name)["EndpointConfigName"]
        described = self._control.describe_endpoint_config(EndpointConfigName=config)
        (variant,) = described["ProductionVariants"]
        model = self._control.describe_model(ModelName=variant["ModelName"])
        bucket, _, key = model["PrimaryContainer"]["ModelDataUrl"][5:].partition("/")
        data = self.moto.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        return unpacked(data)

    def _own(self, request: Request) -> Answer | None:
        parts = urllib.parse.urlsplit(request.path).path.split("/")
        if len(parts) == 4 and (parts[1], parts[3]) == ("endpoints", "invocations"):
            self.calls.append("InvokeEndpoint")
            document = json.loads(answer(self.served(parts[2]) or {}, request.body))
            said = [[p + self.wrong for p in row] for row in document["probabilities"]]
            return as_json(document | {"probabilities": said})
        action = request.headers.get("x-amz-target", "").partition("SageMaker.")[2]
        if not action:
            return None
        self.calls.append(action)
        asked = json.loads(request.body)
        if action in _MAKES:
            return self._make(action, asked)
        if action == "UpdateEndpoint":
            return self._update(asked)
        if action == "DeleteEndpoint":
            self._under_way.pop(asked["EndpointName"], None)
        if action == "DescribeEndpoint":
            return self._describe(asked["EndpointName"])
        return None

    def _make(self, action: str, asked: dict[str, Any]) -> Answer | None:
        describe, key = _MAKES[action]
        if self._there(describe, **{key: asked[key]}):
            kind = action.removeprefix("Create").lower()
            return _refused(f'Cannot create already existing {kind} "{asked[key]}".')
        if action == "CreateEndpoint":
            self._begin(asked["EndpointName"], None)
        return None

    def _update(self, asked: dict[str, Any]) -> Answer:
        name, config = asked["EndpointName"], asked["EndpointConfigName"]
        if name in self._under_way:
            return _refused(f'Cannot update in-progress endpoint "{name}".')
        self.updates.append(asked)
        self._begin(name, config)
        return as_json({"EndpointArn": "arn"})

    def _begin(self, name: str, config: str | None) -> None:
        end = self.ends.pop(0) if self.ends else "served"
        self._under_way[name] = {"config": config, "left": self.polls, "end": end}

    def _describe(self, name: str) -> Answer | None:
        change = self._under_way.get(name)
        if change is None or not self._there("describe_endpoint", EndpointName=name):
            return None
        told = self._control.describe_endpoint(EndpointName=name)
        del told["ResponseMetadata"]
        told |= {key: told[key].timestamp() for key in ("CreationTime", "LastModifiedTime")}
        if change["left"] > 0:
            change["left"] -= 1
            pending = change["config"] or told["EndpointConfigName"]
            told["EndpointStatus"] = "Updating" if change["config"] else "Creating"
            told["PendingDeploymentSummary"] = {"EndpointConfigName": pending}
            return as_json(told)
        if change["end"] == "failed":
            return as_json(told | {"EndpointStatus": "Failed", "FailureReason": "No such image."})
        del self._under_way[name]
        if change["config"] and change["end"] == "served":
            # To moto, an endpoint that is made again has the new configuration.
            config = change["config"]
            self._control.create_endpoint(EndpointName=name, EndpointConfigName=config)
            told["EndpointConfigName"] = config
        return as_json(told)

    def _there(self, describe: str, **name: str) -> bool:
        try:
            getattr(self._control, describe)(**name)
        except ClientError:
            return False
        return True


def _refused(message: str) -> Answer:
    return as_json({"__type": "ValidationException", "message": message}, 400)


def unpacked(data: bytes) -> dict[str, bytes]:
    """The files of a `model.tar.gz`."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        found = {}
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            found[member.name] = stream.read()
        return found
