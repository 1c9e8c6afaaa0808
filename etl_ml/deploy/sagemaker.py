"""An endpoint of Amazon SageMaker, updated blue/green.

    <url>/<pipeline>/models/<version>/model.tar.gz       the package, as the container loads it
    model <endpoint>-v<version>-<digest>                 image, role and model data
    configuration <endpoint>-e<entry>-v<version>-<at>-<digest>

The configuration that the endpoint serves is the pointer; its name says which entry of the
registry's log it follows. Names are made from what they stand for: doing a thing again finds it
done.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from etl_ml.deploy.archive import NAME, ArchivedPackage, pack_archive
from etl_ml.deploy.aws import asking, aws_client
from etl_ml.deploy.folder import Folder
from etl_ml.deploy.package import Package, read_package
from etl_ml.deploy.s3 import s3_objects
from etl_ml.deploy.sample import Sample, sample_of
from etl_ml.deploy.signing import TRUSTED_KEYS, trusted_keys
from etl_ml.deploy.target import Pointer, TargetError, storing
from etl_ml.lake.lake import version_name
from etl_ml.spec.deployment import SageMakerTarget
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    from etl_ml.lake.stores import StoreSettings

_POLL_SECONDS = 15.0
_LONGEST = 63
_CONFIG = re.compile(r"-e(\d+)-v(\d+)-([0-9a-f]+)-[0-9a-f]{8}$")
_UNDER_WAY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_CROSSINGS = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _Endpoint:
    """What is known of an endpoint: it serves `config`, unless that is the `pending` one."""

    status: str
    config: str
    pending: str
    reason: str


class _Crossed(Exception):
    """Another push has begun to change the endpoint."""


class SageMaker:
    """The endpoint of one pipeline, which is made if it is missing; its bucket must exist."""

    type = "sagemaker"

    def __init__(
        self, section: SageMakerTarget, pipeline: str, settings: StoreSettings | None = None
    ) -> None:
        self._section, self._pipeline = section, pipeline
        self._name = section.endpoint_name or pipeline.replace("_", "-").strip("-")[:_LONGEST]
        self.url = f"sagemaker://{self._name}"
        # An endpoint for SageMaker is an emulator's, which has S3 too; a resource knows its own.
        own = settings.endpoint if settings else None
        self._store = s3_objects(
            section.url, settings, region=section.region, endpoint=own or section.endpoint
        )
        given: dict[str, Any] = {"settings": settings, "region": section.region}
        given |= {"endpoint": section.endpoint, "what": "sagemaker target", "where": self.url}
        self._control = aws_client("sagemaker", **given)
        self._runtime = aws_client("sagemaker-runtime", **given)
        self.url = f"sagemaker://{self._control.meta.region_name}/{self._name}"

    def check(self) -> None:
        with storing(self.type, self.url):
            self._store.put(f"{self._pipeline}/check.json", b'{"format": 1}\n')
        self._described()

    def upload(self, package: Package) -> None:
        contents = dict(package.contents())
        with storing(self.type, self.url):
            if not self.uploaded(package.version).holds(contents):
                self._folder(package.version).put(NAME, pack_archive(contents))

    def uploaded(self, version: str) -> ArchivedPackage:
        return ArchivedPackage(self._folder(version))

    def current(self) -> Pointer | None:
        found = self._described()
        if found is None:
            return None
        pointer = self._pointer(found.config)
        # While it is updated nobody says which of two the configuration is.
        known = found.status in ("InService", "Updating", "SystemUpdating")
        return pointer if known and found.config != found.pending else None

    def point(self, pointer: Pointer) -> None:
        config = self._config(pointer)
        package = read_package(self.uploaded(pointer.version))
        sample = sample_of(package) if self._section.verify else None
        for _ in range(_CROSSINGS):
            before = self._settled()
            if before is not None:
                now = self._pointer(before.config)
                if now.entry > pointer.entry:
                    return
                if now.entry == pointer.entry and now != pointer:
                    raise self._error(
                        f"entry {now.entry} is another one there: another lake publishes to this "
                        "endpoint.",
                        fix="give each lake an endpoint_name of its own",
                    )
            try:
                if before is None or (before.config, before.status) != (config, "InService"):
                    self._serve(config, pointer.version, before)
                if sample is not None:
                    self._ask(sample, config, before)
            except _Crossed:
                continue
            return
        raise self._error(
            "the endpoint is changed by others all the time.",
            fix="see who does, then materialize deployed_model again",
        )

    def _serve(self, config: str, version: str, before: _Endpoint | None) -> None:
        """Bring the endpoint to a configuration, and wait until it serves that."""
        with self._asking("the endpoint cannot be given its model"):
            self._make(config, version)
        self._turn(config, before)
        after = self._settled(clear=False)
        if after is None or after.status == "Failed":
            raise self._error(
                f"the endpoint could not be made for version {version}; nothing is served there.",
                seen=after.reason if after else None,
                fix="mend what it says and see its logs in CloudWatch, then materialize "
                "deployed_model again: it is made anew",
            )
        if after.config != config or after.status != "InService":
            raise self._error(
                f"version {version} did not come into service, and the endpoint went back to "
                f"{after.config}.",
                seen=f"{after.status} {after.reason}".strip(),
                fix="see the endpoint's logs and alarms in CloudWatch, then materialize "
                "deployed_model again",
            )

    def _make(self, config: str, version: str) -> None:
        section, model = self._section, self._model(version)
        tags = {**section.tags, "etl_ml:pipeline": self._pipeline, "etl_ml:version": version}
        named = [{"Key": key, "Value": value} for key, value in tags.items()]
        with self._unless_there():
            self._control.create_model(
                ModelName=model,
                ExecutionRoleArn=section.role_arn,
                PrimaryContainer=self._container(version),
                Tags=named,
            )
        variant = {
            "VariantName": section.variant,
            "ModelName": model,
            "InstanceType": section.instance_type,
            "InitialInstanceCount": section.instance_count,
            "InitialVariantWeight": 1.0,
        }
        with self._unless_there():
            self._control.create_endpoint_config(
                EndpointConfigName=config, ProductionVariants=[variant], Tags=named
            )

    def _turn(self, config: str, before: _Endpoint | None) -> None:
        """Begin to change the endpoint; raises `_Crossed` where somebody else has begun."""
        section = self._section
        tags = {**section.tags, "etl_ml:pipeline": self._pipeline}
        with self._asking("the endpoint cannot be changed"):
            try:
                if before is None:
                    self._control.create_endpoint(
                        EndpointName=self._name,
                        EndpointConfigName=config,
                        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                    )
                    return
                self._control.update_endpoint(
                    EndpointName=self._name,
                    EndpointConfigName=config,
                    DeploymentConfig=_blue_green(section),
                )
            except self._control.exceptions.ClientError as error:
                if _says(error, "in-progress", "already existing"):
                    raise _Crossed from None
                raise

    def _ask(self, sample: Sample, config: str, before: _Endpoint | None) -> None:
        """Let the endpoint answer the sample rows, and take it back where it does not."""
        try:
            with self._asking("the endpoint cannot be asked the sample rows"):
                answer = self._runtime.invoke_endpoint(
                    EndpointName=self._name,
                    TargetVariant=self._section.variant,
                    ContentType="application/json",
                    Accept="application/json",
                    Body=sample.request,
                )["Body"].read()
            sample.check(answer, where=self.url)
        except EtlMlError as error:
            raise self._error(
                f"{error.what.removeprefix(f'{self.type} target: ')} {self._back(config, before)}",
                seen=error.seen,
                fix=error.fix,
            ) from None

    def _back(self, config: str, before: _Endpoint | None) -> str:
        """Undo what brought the endpoint to a configuration; says what became of it."""
        try:
            if before is None:
                with self._asking("the endpoint cannot be deleted"):
                    self._control.delete_endpoint(EndpointName=self._name)
                return "The endpoint was deleted; nothing is served there."
            if before.config == config:
                return f"The endpoint goes on serving {config}: it did before."
            self._turn(before.config, before)
            after = self._settled()
        except TargetError as error:
            return f"The endpoint could not be taken back: {error.what}"
        now = after.config if after else "nothing"
        return f"The endpoint was taken back, and serves {now}."

    def _settled(self, *, clear: bool = True) -> _Endpoint | None:
        """The endpoint once nothing is under way with it.

        Parameters
        ----------
        clear : remove one that failed, with which nothing else can be done
        """
        end = time.monotonic() + self._section.wait_seconds
        while (found := self._described()) is not None:
            if found.status == "Failed" and clear:
                with self._asking("the endpoint, which has failed, cannot be deleted"):
                    self._control.delete_endpoint(EndpointName=self._name)
            elif found.status not in _UNDER_WAY:
                return found
            if time.monotonic() > end:
                raise self._error(
                    f"after {self._section.wait_seconds} s the endpoint is still "
                    f"{found.status}: {found.pending or found.config}.",
                    fix="materialize deployed_model again, which goes on waiting; or raise "
                    "wait_seconds",
                )
            time.sleep(_POLL_SECONDS)
        return None

    def _described(self) -> _Endpoint | None:
        with self._asking("the endpoint cannot be read"):
            try:
                found = self._control.describe_endpoint(EndpointName=self._name)
            except self._control.exceptions.ClientError as error:
                if _says(error, "Could not find"):
                    return None
                raise
        return _Endpoint(
            status=found["EndpointStatus"],
            config=found.get("EndpointConfigName", ""),
            pending=found.get("PendingDeploymentSummary", {}).get("EndpointConfigName", ""),
            reason=found.get("FailureReason", ""),
        )

    def _container(self, version: str) -> dict[str, Any]:
        keys = ",".join(sorted(trusted_keys()))
        environment = {**({TRUSTED_KEYS: keys} if keys else {}), **self._section.environment}
        url = f"{self._section.url}/{self._pipeline}/models/{version}/{NAME}"
        return {"Image": self._section.image, "ModelDataUrl": url, "Environment": environment}

    def _model(self, version: str) -> str:
        digest = _digest(self._name, self._container(version), self._section.role_arn)
        return self._fitting(f"-v{int(version)}-{digest}")

    def _config(self, pointer: Pointer) -> str:
        section = self._section
        machine = [section.variant, section.instance_type, section.instance_count]
        digest = _digest(self._name, self._model(pointer.version), machine)
        at = (datetime.fromisoformat(pointer.at) - _EPOCH) // timedelta(milliseconds=1)
        return self._fitting(f"-e{pointer.entry}-v{int(pointer.version)}-{at:x}-{digest}")

    def _fitting(self, ending: str) -> str:
        return f"{self._name[: _LONGEST - len(ending)].rstrip('-')}{ending}"

    def _pointer(self, config: str) -> Pointer:
        found = _CONFIG.search(config)
        if found is None:
            raise self._error(
                f"the endpoint serves {config!r}, which is no configuration of etl_ml.",
                fix="name an endpoint_name of its own, which is made",
            )
        at = _EPOCH + timedelta(milliseconds=int(found[3], 16))
        said = at.isoformat(timespec="milliseconds")
        return Pointer(int(found[1]), version_name(found[2]), said)

    def _folder(self, version: str) -> Folder:
        return Folder(self._store, f"{self._pipeline}/models/{version}")

    @contextmanager
    def _unless_there(self) -> Iterator[None]:
        try:
            yield
        except self._control.exceptions.ClientError as error:
            if not _says(error, "already existing"):
                raise

    def _asking(self, what: str) -> AbstractContextManager[None]:
        return asking(f"{self.type} target: {what}", where=self.url)

    def _error(self, what: str, *, seen: str | None = None, fix: str | None) -> TargetError:
        return TargetError(f"{self.type} target: {what}", seen=seen, where=self.url, fix=fix)


def _blue_green(section: SageMakerTarget) -> dict[str, Any]:
    """Traffic goes to the new fleet at once; the old one stays until the alarms were watched."""
    bake = section.bake_seconds if section.alarms else 0
    policy = {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": bake},
        "MaximumExecutionTimeoutInSeconds": min(max(600, section.wait_seconds), 28_800),
    }
    deployment: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
    if section.alarms:
        alarms = [{"AlarmName": name} for name in section.alarms]
        deployment["AutoRollbackConfiguration"] = {"Alarms": alarms}
    return deployment


def _digest(*of: Any) -> str:
    text = json.dumps(of, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=4).hexdigest()


def _says(error: Any, *texts: str) -> bool:
    told = error.response.get("Error", {}).get("Message", "")
    return any(text in told for text in texts)
