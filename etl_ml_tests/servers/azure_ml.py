"""Azure Machine Learning's online endpoints, as far as they were seen in recorded requests.

There is no emulator. This server speaks what azure-ai-ml's own recordings show: resources that are
put and polled by `Azure-AsyncOperation`, tags and traffic of an endpoint in one document, requests
for one deployment by the header `azureml-model-deployment`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from azure.core.pipeline.transport import RequestsTransport

from etl_ml_tests.servers.azurite import Azurite
from etl_ml_tests.servers.http import Answer, Http, Request, as_json
from etl_ml_tests.servers.scoring import answer

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
WORKSPACE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/group"
    "/providers/Microsoft.MachineLearningServices/workspaces/space"
)
_AUTHORITY = "https://login.microsoftonline.com/tenant"
_PLACES = re.compile(r"/datastores/workspaceblobstore/paths/(.+)$")
KEY, _SECRET = "the-key-of-the-endpoint", "the-secret-of-the-client"


@dataclass
class AzureMl:
    """One workspace with one datastore.

    Attributes
    ----------
    polls : how often an operation is asked for until it is done
    fails : what new deployments fail with; "" for those that come up
    wrong : how far the containers' answers are off
    calls : method and path in the workspace of all requests
    resources : what was put, by its path in the workspace
    """

    azurite: Azurite
    container: str
    http: Http
    polls: int = 0
    fails: str = ""
    wrong: float = 0.0
    calls: list[tuple[str, str]] = field(default_factory=list)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """The deployments that were asked by name."""

    def __post_init__(self) -> None:
        self._operations: dict[str, list[Any]] = {}
        self.http.fallback = self._answer

    environment: ClassVar = {
        "AZURE_CLIENT_ID": "client",
        "AZURE_TENANT_ID": "tenant",
        "AZURE_CLIENT_SECRET": _SECRET,
    }
    secrets: ClassVar = (KEY, _SECRET, "Bearer token")

    def instead_of_azure(self, patch: pytest.MonkeyPatch) -> None:
        """Bring every request for https:// here."""
        send = RequestsTransport.send

        def sent(transport: RequestsTransport, request: Any, **options: Any) -> Any:
            url = request.url
            if url.startswith("https://"):
                request.url = re.sub(r"^https://[^/]+", self.http.url, url)
            try:
                return send(transport, request, **options)
            finally:
                request.url = url  # by which it is asked again how far it is

        patch.setattr(RequestsTransport, "send", sent)

    def hasten(self) -> None:
        """Whatever is under way is done."""
        for _, document, fails in self._operations.values():
            document["properties"]["provisioningState"] = "Failed" if fails else "Succeeded"

    def traffic(self, endpoint: str) -> dict[str, int]:
        found: dict[str, int] = self.resources[f"/onlineEndpoints/{endpoint}"]["properties"][
            "traffic"
        ]
        return found

    def deployments(self, endpoint: str) -> list[str]:
        start = f"/onlineEndpoints/{endpoint}/deployments/"
        return sorted(p.removeprefix(start) for p in self.resources if p.startswith(start))

    def served(self, endpoint: str) -> dict[str, bytes] | None:
        """The files that the deployment with all the traffic was given; None where none has it."""
        if f"/onlineEndpoints/{endpoint}" not in self.resources:
            return None
        served = [name for name, share in self.traffic(endpoint).items() if share == 100]
        return self._files(endpoint, served[0]) if served else None

    def _files(self, endpoint: str, deployment: str) -> dict[str, bytes]:
        given = self.resources[f"/onlineEndpoints/{endpoint}/deployments/{deployment}"]
        model = given["properties"]["model"].partition("/workspaces/space")[2]
        place = _PLACES.search(self.resources[model]["properties"]["modelUri"])
        assert place is not None
        blobs = self.azurite.client().get_container_client(self.container)
        names = [blob.name for blob in blobs.list_blobs(f"{place[1]}/")]
        return {n.rpartition("/")[2]: blobs.download_blob(n).readall() for n in names}

    def _answer(self, request: Request) -> Answer:
        if "/oauth2/" in request.path or "/.well-known/" in request.path:
            return _signed_in(request)
        if "instance" in request.path:
            return as_json({"tenant_discovery_endpoint": f"{_AUTHORITY}/.well-known/x"})
        if request.path == "/score":
            return self._score(request)
        if request.headers.get("authorization") != "Bearer token":
            return _error("InvalidAuthenticationToken", "The access token is invalid.", 401)
        if request.path.startswith("/operations/"):
            return self._operation(request.path.rpartition("/")[2])
        path = request.path.removeprefix(WORKSPACE)
        self.calls.append((request.method, path))
        if path == request.path:
            return _error("ResourceGroupNotFound", "Resource group could not be found.", 404)
        act: Callable[[str, Request], Answer] = {
            "GET": self._get,
            "PUT": self._put,
            "POST": self._post,
            "DELETE": self._delete,
        }[request.method]
        return act(path, request)

    def _get(self, path: str, request: Request) -> Answer:
        if path == "":
            names = {"id": WORKSPACE, "name": "space", "location": "westeurope"}
            return as_json({**names, "properties": {"friendlyName": "space"}})
        if path == "/datastores/workspaceblobstore":
            blob = {"datastoreType": "AzureBlob", "accountName": "account"}
            blob |= {"containerName": self.container, "credentials": {"credentialsType": "None"}}
            return as_json({"id": WORKSPACE + path, "name": "d", "properties": blob})
        if path.endswith(("/deployments", "/versions")):
            below = [r for p, r in self.resources.items() if p.startswith(f"{path}/")]
            return as_json({"value": below})
        if path not in self.resources:
            return _error("ResourceNotFound", f"{path} was not found.", 404)
        return as_json(self.resources[path])

    def _put(self, path: str, request: Request) -> Answer:
        there = self.resources.get(path, {}).get("properties", {})
        if there.get("provisioningState") in ("Creating", "Updating"):
            return _error("Conflict", "Another operation is in progress.", 409)
        document = json.loads(request.body)
        document |= {"id": WORKSPACE + path, "name": path.rpartition("/")[2]}
        document["systemData"] = {
            "createdBy": "tests",
            "createdAt": "2026-01-02T03:04:05.678901+00:00",
            "lastModifiedAt": "2026-01-02T03:04:05.678901+00:00",
        }
        properties = document["properties"]
        if "/models/" in path:
            if there and there["modelUri"] != properties["modelUri"]:
                return _error("UserError", "A model's path cannot be changed.", 400)
            properties.setdefault("flavors", {})
        self.resources[path] = document
        if not path.startswith("/onlineEndpoints/"):
            return as_json(document, 200 if there else 201)
        if "/deployments/" in path:
            properties.setdefault("scaleSettings", {"scaleType": "Default"})
        else:
            properties["scoringUri"] = "https://endpoint.westeurope.inference.ml.azure.com/score"
            served = {name for name, share in properties["traffic"].items() if share}
            unknown = served - set(self.deployments(document["name"]))
            if unknown:
                return _error("BadArgument", f"There is no deployment {unknown}.", 400)
        properties["provisioningState"] = "Updating" if there else "Creating"
        return self._begun(document, self.fails if "/deployments/" in path else "")

    def _post(self, path: str, request: Request) -> Answer:
        if path.endswith("/listKeys"):
            return as_json({"primaryKey": KEY, "secondaryKey": "the-other-key"})
        return _error("NotFound", path, 404)

    def _delete(self, path: str, request: Request) -> Answer:
        if self.resources.pop(path, None) is None:
            return 204, {}, b""
        return as_json({})

    def _begun(self, document: dict[str, Any], fails: str) -> Answer:
        number = str(len(self._operations))
        self._operations[number] = [self.polls, document, fails]
        headers = {"Azure-AsyncOperation": f"https://management.azure.com/operations/{number}"}
        if self.polls == 0 and not fails:
            document["properties"]["provisioningState"] = "Succeeded"
            headers = {}
        return as_json(document, 201, **headers)

    def _operation(self, number: str) -> Answer:
        left, document, fails = self._operations[number]
        if left > 0:
            self._operations[number][0] -= 1
            return as_json({"status": "Updating", "percentComplete": 0.0}, **{"Retry-After": "1"})
        document["properties"]["provisioningState"] = "Failed" if fails else "Succeeded"
        if fails:
            error = {"code": "BadRequest", "message": fails}
            return as_json({"status": "Failed", "error": error})
        return as_json({"status": "Succeeded", "percentComplete": 100.0})

    def _score(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return _error("Unauthorized", "key_auth_access_denied", 401)
        deployment = request.headers["azureml-model-deployment"]
        self.asked.append(deployment)
        (endpoint,) = (
            path.split("/")[2] for path in self.resources if path.endswith(f"/{deployment}")
        )
        document = json.loads(answer(self._files(endpoint, deployment), request.body))
        said = [[p + self.wrong for p in row] for row in document["probabilities"]]
        return as_json(document | {"probabilities": said})


def _error(code: str, message: str, status: int) -> Answer:
    return as_json({"error": {"code": code, "message": message}}, status)


def _signed_in(request: Request) -> Answer:
    if request.path.endswith("/token"):
        return as_json({"token_type": "Bearer", "expires_in": 3600, "access_token": "token"})
    endpoints = {f"{name}_endpoint": f"{_AUTHORITY}/oauth2/{name}" for name in ("token", "x")}
    endpoints["authorization_endpoint"] = f"{_AUTHORITY}/oauth2/authorize"
    return as_json({**endpoints, "issuer": f"{_AUTHORITY}/v2.0"})
