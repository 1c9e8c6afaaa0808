"""A managed online endpoint of Azure Machine Learning, by azure-ai-ml.

    <url>/<pipeline>/models/<version>/…      the package, in the container of a datastore
    model <endpoint>:<version>               names that folder
    deployment v<version>-<digest>           serves it: image, machine and model
    the endpoint's traffic and tags          which deployment is served, since which entry

A deployment is made with no traffic and asked the sample rows by name. Traffic and tags move in one
request: they are the pointer. The deployment that was served before stays, for a rollback.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from etl_ml.deploy.azure import asking
from etl_ml.deploy.folder import Folder
from etl_ml.deploy.package import Package
from etl_ml.deploy.publication import Publication
from etl_ml.deploy.sample import sample_of
from etl_ml.deploy.signing import TRUSTED_KEYS, trusted_keys
from etl_ml.deploy.target import Pointer, TargetError
from etl_ml.deploy.verify import OtherAnswers
from etl_ml.lake.stored_files import StoredFiles
from etl_ml.lake.stores import StoreSettings, open_store
from etl_ml.spec.deployment import AzureMlTarget
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import OnlineDeployment, OnlineEndpoint
    from azure.core.polling import LROPoller

_Resource = TypeVar("_Resource", "OnlineEndpoint", "OnlineDeployment")
_UNDER_WAY = ("Creating", "Updating", "Scaling", "Deleting")
_POLL_SECONDS = 15.0
_DEPLOYMENT = re.compile(r"^v(\d+)-[0-9a-f]{6}$")
_ENTRY, _VERSION, _AT, _BEFORE = (f"etl_ml_{name}" for name in ("entry", "version", "at", "before"))


class AzureMl:
    """The endpoint of one pipeline, which is made if it is missing; its workspace must exist."""

    type = "azure_ml"

    def __init__(
        self, section: AzureMlTarget, pipeline: str, settings: StoreSettings | None = None
    ) -> None:
        self._section, self._pipeline = section, pipeline
        self._name = section.endpoint_name or pipeline.replace("_", "-").strip("-")[:32]
        self.url = f"azureml://{section.workspace}/{self._name}"
        given = settings or StoreSettings()
        given = replace(given, endpoint=section.endpoint or given.endpoint)
        store, prefix = open_store(section.url, given)
        self._data = Publication(self.type, StoredFiles(section.url, store, prefix), pipeline)

    def check(self) -> None:
        self._data.check()
        with self._asking("the datastore cannot be read"):
            datastore = self._client.datastores.get(self._section.datastore)
        container = getattr(datastore, "container_name", None)
        if container != self._container:
            raise self._error(
                f"the datastore {self._section.datastore} is of container {container}, and url of "
                f"{self._container}.",
                fix="name a datastore of the workspace that is of url's container",
            )
        self._endpoint()

    def upload(self, package: Package) -> None:
        self._data.upload(package)
        self._register(package.version)
        endpoint = self._endpoint() or self._made()
        name = self._deployment(package.version)
        self._tidy(endpoint, keep={name})
        self._deploy(name, package.version)
        self._ask(name, package, endpoint)

    def uploaded(self, version: str) -> Folder:
        return self._data.uploaded(version)

    def current(self) -> Pointer | None:
        endpoint = self._endpoint()
        return self._pointer(endpoint) if endpoint else None

    def point(self, pointer: Pointer) -> None:
        endpoint = self._settled(self._endpoint)
        now = self._pointer(endpoint) if endpoint else None
        if now is not None and now.entry > pointer.entry:
            return
        if now is not None and now.entry == pointer.entry and now != pointer:
            raise self._error(
                f"entry {now.entry} is another one there: another lake publishes to this endpoint.",
                fix="give each lake an endpoint_name of its own",
            )
        name = self._deployment(pointer.version)
        if endpoint is None or self._found(name) is None:
            raise self._error(
                f"the deployment {name} is gone.", fix="materialize deployed_model again"
            )
        before = next((n for n, share in endpoint.traffic.items() if share), None)
        if before != name or now != pointer:
            told = {_ENTRY: str(pointer.entry), _VERSION: pointer.version, _AT: pointer.at}
            if before is not None and before != name:
                told[_BEFORE] = before
            endpoint.tags = {**(endpoint.tags or {}), **told}
            endpoint.traffic = {name: 100}
            with self._asking("the traffic cannot be moved"):
                self._finish(self._client.online_endpoints.begin_create_or_update(endpoint))
        self._tidy(endpoint, keep={name})

    def _register(self, version: str) -> None:
        """Name the package's folder as a version of the model, which is never changed."""
        from azure.ai.ml.entities import Model
        from azure.core.exceptions import ResourceNotFoundError

        prefix = self._section.url.removeprefix("az://").partition("/")[2]
        folder = "/".join(filter(None, (prefix, self._pipeline, "models", version)))
        path = f"datastores/{self._section.datastore}/paths/{folder}"
        models, number = self._client.models, str(int(version))
        with self._asking("the model cannot be registered"):
            try:
                found = models.get(self._name, number)
            except ResourceNotFoundError:
                model = Model(
                    name=self._name,
                    version=number,
                    path=f"azureml://{path}",
                    type="custom_model",
                    tags=self._tags,
                )
                models.create_or_update(model)
                return
        if not str(found.path).rstrip("/").endswith(path):
            raise self._error(
                f"version {number} of the model {self._name} is another one there.",
                seen=str(found.path),
                fix="give each lake an endpoint_name of its own, and keep url and datastore",
            )

    def _made(self) -> OnlineEndpoint:
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        endpoint = ManagedOnlineEndpoint(
            name=self._name, auth_mode=self._section.auth_mode, tags=self._tags
        )
        with self._asking("the endpoint cannot be made"):
            self._finish(self._client.online_endpoints.begin_create_or_update(endpoint))
        made = self._endpoint()
        assert made is not None
        return made

    def _deploy(self, name: str, version: str) -> None:
        """Bring up a deployment that gets no traffic."""
        from azure.ai.ml.entities import (
            Environment,
            ManagedOnlineDeployment,
            OnlineRequestSettings,
        )

        section = self._section
        found = self._settled(lambda: self._found(name))
        if found is not None and found.provisioning_state == "Succeeded":
            return
        routes = {
            f"{route}_route": {"port": section.port, "path": path}
            for route, path in (
                ("liveness", "/health/live"),
                ("readiness", "/health/ready"),
                ("scoring", "/score"),
            )
        }
        deployment = ManagedOnlineDeployment(
            name=name,
            endpoint_name=self._name,
            model=f"azureml:{self._name}:{int(version)}",
            environment=Environment(image=section.image, inference_config=routes),
            environment_variables=self._environment,
            instance_type=section.instance_type,
            instance_count=section.instance_count,
            request_settings=OnlineRequestSettings(
                max_concurrent_requests_per_instance=section.concurrent_requests
            ),
            tags=self._tags,
        )
        with self._asking(f"the deployment {name} did not come up, and gets no traffic"):
            self._finish(self._client.online_deployments.begin_create_or_update(deployment))

    def _ask(self, name: str, package: Package, endpoint: OnlineEndpoint) -> None:
        """Let a deployment answer the sample rows, whatever the traffic is."""
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import RetryPolicy
        from azure.core.rest import HttpRequest

        sample = sample_of(package)
        if sample is None or not self._section.verify:
            return
        # Not by the client's own `invoke`, which keeps the key for whoever calls it next.
        with self._asking(f"the deployment {name} cannot be asked the sample rows"):
            keys: Any = self._client.online_endpoints.get_keys(self._name)
            key = getattr(keys, "primary_key", None) or keys.access_token
            request = HttpRequest(
                "POST",
                str(endpoint.scoring_uri),
                headers={
                    "Authorization": f"Bearer {key}",
                    "Content-Type": "application/json",
                    "azureml-model-deployment": name,
                },
                content=sample.request,
            )
            client: PipelineClient[Any, Any] = PipelineClient("", policies=[RetryPolicy()])
            with client:
                answer = client.send_request(request)
                answer.raise_for_status()
                body: bytes = answer.read()
        try:
            sample.check(body, where=self.url)
        except OtherAnswers as error:
            what = f"the deployment {name} gets no traffic: {error.what}"
            raise self._error(what, seen=error.seen, fix=error.fix) from None

    def _tidy(self, endpoint: OnlineEndpoint, keep: set[str]) -> None:
        """Remove deployments that are neither served nor were before, and wait for nothing."""
        kept = {*keep, *(name for name, share in endpoint.traffic.items() if share)}
        kept.add((endpoint.tags or {}).get(_BEFORE, ""))
        newest = max(_number(name) for name in kept)
        for deployment in self._deployments():
            name = str(deployment.name)
            if _DEPLOYMENT.match(name) and name not in kept and _number(name) <= newest:
                with self._asking(f"the old deployment {name} cannot be removed"):
                    self._finish(self._client.online_deployments.begin_delete(name, self._name))

    def _endpoint(self) -> OnlineEndpoint | None:
        from azure.core.exceptions import ResourceNotFoundError

        with self._asking("the endpoint cannot be read"):
            try:
                found: OnlineEndpoint = self._client.online_endpoints.get(self._name)
            except ResourceNotFoundError:  # a missing workspace is told by `check`
                return None
        found.tags, found.traffic = found.tags or {}, found.traffic or {}
        return found

    def _found(self, name: str) -> OnlineDeployment | None:
        from azure.core.exceptions import ResourceNotFoundError

        with self._asking(f"the deployment {name} cannot be read"):
            try:
                found: OnlineDeployment = self._client.online_deployments.get(name, self._name)
            except ResourceNotFoundError:
                return None
        return found

    def _deployments(self) -> list[OnlineDeployment]:
        with self._asking("the deployments cannot be listed"):
            return list(self._client.online_deployments.list(self._name))

    def _settled(self, get: Callable[[], _Resource | None]) -> _Resource | None:
        """An endpoint or deployment, once nothing is under way with it."""
        end = time.monotonic() + self._section.wait_seconds
        while (found := get()) is not None and found.provisioning_state in _UNDER_WAY:
            if time.monotonic() > end:
                state = getattr(found.provisioning_state, "value", found.provisioning_state)
                raise self._late(f"{found.name} is still {state}")
            time.sleep(_POLL_SECONDS)
        return found

    def _finish(self, poller: LROPoller[Any]) -> None:
        """Wait for what was begun; raises what Azure says where it failed."""
        poller.wait(self._section.wait_seconds)
        if not poller.done():
            raise self._late(f"the request is still {poller.status()}")
        poller.result()

    def _late(self, what: str) -> TargetError:
        return self._error(
            f"after {self._section.wait_seconds} s {what}.",
            fix="materialize deployed_model again, which goes on waiting; or raise wait_seconds",
        )

    def _pointer(self, endpoint: OnlineEndpoint) -> Pointer | None:
        tags = endpoint.tags or {}
        traffic = {name: share for name, share in (endpoint.traffic or {}).items() if share}
        if _ENTRY not in tags and not traffic:
            return None
        try:
            pointer = Pointer(int(tags[_ENTRY]), str(tags[_VERSION]), str(tags[_AT]))
        except (KeyError, ValueError):
            raise self._error(
                "the endpoint was made by others: it has traffic, and no tags of etl_ml.",
                seen=bounded(traffic),
                fix="name an endpoint_name of its own, which is made",
            ) from None
        if [_number(name) for name in traffic] != [int(pointer.version)]:
            raise self._error(
                f"its traffic was moved by others: its tags say that it serves {pointer.version}.",
                seen=bounded(traffic),
                fix=f"give all traffic to the deployment of version {int(pointer.version)} "
                "again; to serve another version, promote it",
            )
        return pointer

    @cached_property
    def _client(self) -> MLClient:
        from azure.ai.ml import MLClient
        from azure.identity import DefaultAzureCredential

        section = self._section
        return MLClient(
            DefaultAzureCredential(),
            section.subscription_id,
            section.resource_group,
            section.workspace,
            enable_telemetry=False,
            show_progress=False,
        )

    @property
    def _container(self) -> str:
        return self._section.url.removeprefix("az://").partition("/")[0]

    @property
    def _environment(self) -> dict[str, str]:
        keys = ",".join(sorted(trusted_keys()))
        return {**({TRUSTED_KEYS: keys} if keys else {}), **self._section.environment}

    @property
    def _tags(self) -> dict[str, str]:
        return {**self._section.tags, "etl_ml_pipeline": self._pipeline}

    def _deployment(self, version: str) -> str:
        """A name for what serves a version: another image or machine is another deployment."""
        section = self._section
        of = [section.image, section.instance_type, section.instance_count, section.port]
        text = json.dumps([*of, section.concurrent_requests, self._environment], sort_keys=True)
        return f"v{int(version)}-{hashlib.blake2b(text.encode(), digest_size=3).hexdigest()}"

    def _asking(self, what: str) -> AbstractContextManager[None]:
        return asking(f"{self.type} target: {what}", where=self.url)

    def _error(self, what: str, *, seen: str | None = None, fix: str | None) -> TargetError:
        return TargetError(f"{self.type} target: {what}", seen=seen, where=self.url, fix=fix)


def _number(deployment: str) -> int:
    """The version that a deployment serves; -1 for one that is not ours."""
    found = _DEPLOYMENT.match(deployment)
    return int(found[1]) if found else -1
