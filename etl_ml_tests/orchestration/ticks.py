"""A pipeline's sensor, looked with as the daemon does, and the runs that it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG

from etl_ml_tests.project import Project


class Ticks:
    """One daemon's view of a sensor: its cursor, and the instance that it may share."""

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance, sensor: str) -> None:
        self.defs, self.instance = defs, instance
        self.sensor = defs.resolve_sensor_def(sensor)
        self.job = defs.resolve_job_def(
            f"{sensor.removesuffix('_new_data')}_job".replace("_retrain_job", "_job")
        )
        self.cursor: str | None = None

    def look(self) -> dg.SensorResult:
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.defs
        ) as context:
            result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return result

    def reason(self) -> str:
        """Why a look asks for nothing."""
        result = self.look()
        assert not result.run_requests, result.run_requests
        assert result.skip_reason is not None
        return str(result.skip_reason.skip_message)

    def request(self, looks: int = 1) -> dg.RunRequest:
        """What the last of so many looks asks for; the others ask for nothing."""
        for _ in range(looks - 1):
            self.reason()
        result = self.look()
        assert result.run_requests, result.skip_reason
        (request,) = result.run_requests
        return request

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What the daemon would launch."""
        return self.job.execute_in_process(
            instance=self.instance,
            asset_selection=request.asset_selection,
            tags={**request.tags, RUN_KEY_TAG: str(request.run_key)},
            raise_on_error=False,
        )


@contextmanager
def ticking(project: Project, sensor: str = "loans_new_data") -> Iterator[Ticks]:
    """The sensor of a project, on an instance of its own."""
    with project.loaded() as defs, dg.DagsterInstance.ephemeral() as instance:
        yield Ticks(defs, instance, sensor)


def assets(request: dg.RunRequest) -> set[str] | None:
    """Names of the assets that a run takes, None for all."""
    if request.asset_selection is None:
        return None
    return {key.path[-1] for key in request.asset_selection}


def made(result: Any) -> list[str]:
    return [event.asset_key.path[-1] for event in result.get_asset_materialization_events()]
