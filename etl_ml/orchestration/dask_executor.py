"""Steps on a Dask cluster, each in a process of its own on one of its workers.

dagster-dask's executor goes on with the steps behind one that failed, on what earlier runs left:
this one leaves the order, the failures and the retries to Dagster, and to Dask the place.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Self, cast

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)
from distributed import Client, Event, Future, LocalCluster, Variable, get_client, get_worker

from etl_ml.spec.error import EtlMlError

_SECONDS_TO_CONNECT = 20
_SECONDS_TO_END = 30


@dg.executor(
    name="dask",
    config_schema={
        "address": dg.Field(
            dg.Noneable(dg.StringSource),
            default_value=None,
            description="Of the scheduler; by default a cluster is started in the run's process.",
        )
    },
    requirements=dg.multiple_process_executor_requirements(),
)
def dask_executor(context: dg.InitExecutorContext) -> DaskExecutor:
    """Each step on a worker of the cluster at `address`; the workers need etl_ml and the lake."""
    return DaskExecutor(DaskStepHandler(cast("str | None", context.executor_config["address"])))


class DaskExecutor(StepDelegatingExecutor):
    """Dagster's loop over steps; the cluster is there as long as it runs."""

    def __init__(self, handler: DaskStepHandler) -> None:
        super().__init__(handler, RetryMode.ENABLED, check_step_health_interval_seconds=5)
        self._handler = handler

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        with self._handler:
            yield from super().execute(plan_context, execution_plan)


class DaskStepHandler(StepHandler):
    """Begins a step on the cluster, asks after it, ends it."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._futures: dict[str, Future[None]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # Threads are enough: each only waits for the process of its step.
            cluster = self._address or stack.enter_context(
                LocalCluster(processes=False, n_workers=1, dashboard_address=None)
            )
            self._client = stack.enter_context(_client(cluster))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        # A step has told its last event a moment before its process ends.
        ending = [future for future in self._futures.values() if future.status == "pending"]
        with self._stack, suppress(TimeoutError):
            for future in ending:
                future.exception(timeout=_SECONDS_TO_END)
            for key in self._futures:
                Variable(f"{key}-worker", client=self._client).delete()
        self._futures.clear()

    @property
    def name(self) -> str:
        return "DaskStepHandler"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        [step] = step_handler_context.execute_step_args.step_keys_to_execute or ()
        command = step_handler_context.execute_step_args.get_command_args()
        key = _key(step_handler_context)
        self.begin(key, command[command.index("api") :])
        context = step_handler_context.get_step_context(step)
        message = f'Step "{step}" is sent to Dask at {self._client.scheduler.address}.'
        yield DagsterEvent.step_worker_starting(context, message, {"dask_key": key})

    def begin(self, key: str, arguments: Sequence[str]) -> None:
        """Send `dagster` with these arguments to a worker."""
        self._futures[key] = self._client.submit(run_step, arguments, key, key=key, pure=False)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        problem = self.problem(_key(step_handler_context))
        if problem:
            return CheckStepHealthResult.unhealthy(problem)
        return CheckStepHealthResult.healthy()

    def problem(self, key: str) -> str | None:
        """Why a step that was begun will not end by itself; None while it may."""
        future = self._futures.get(key)
        if future is None or future.status == "finished":
            return None
        if self._client.status != "running":
            return "The connection to the Dask scheduler is lost."
        if future.status != "pending":
            reason = future.exception(timeout=10) if future.status == "error" else future.status
            return f"On its Dask worker: {reason}"
        worker = _worker_of(key, self._client)
        if worker is None or worker in self._client.scheduler_info()["workers"]:
            return None
        return f"The Dask worker {worker}, which ran the step, is gone."

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        key = _key(step_handler_context)
        Event(f"{key}-end", client=self._client).set()
        self._futures[key].cancel()
        yield from ()


def _key(context: StepHandlerContext) -> str:
    """Of one try of one step of one run."""
    arguments = context.execute_step_args
    [step] = arguments.step_keys_to_execute or ()
    tries = (
        arguments.known_state.get_retry_state().get_attempt_count(step)
        if (arguments.known_state)
        else 0
    )
    return f"{arguments.run_id}-{step}-{tries}"


def _client(cluster: Any) -> Client:
    try:
        return Client(cluster, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise EtlMlError(
            f"The Dask scheduler at {cluster} does not answer.",
            seen=f"{type(error).__name__} within {_SECONDS_TO_CONNECT} s",
            where="ETL_ML_DASK_ADDRESS",
            fix="start it (dask scheduler), or correct the address: tcp://host:8786",
        ) from error


def _worker_of(key: str, client: Client) -> str | None:
    """The address of the worker that began a step, or None."""
    with suppress(TimeoutError):
        return str(Variable(f"{key}-worker", client=client).get(timeout=0.1))
    return None


def run_step(arguments: Sequence[str], key: str) -> None:
    """Run one step in a process of its own; called on a worker.

    Dagster's process writes the step's events into the instance's storage itself.

    Raises
    ------
    RuntimeError
        The process died, or the worker that had begun the step did: Dask would run it again, but
        whether it is tried again is for Dagster's retry policy to say.
    """
    if (before := _worker_of(key, get_client())) is not None:
        raise RuntimeError(f"{before}, which ran the step, is gone")
    Variable(f"{key}-worker").set(get_worker().address)
    end = Event(f"{key}-end")
    process = subprocess.Popen([sys.executable, "-m", "dagster", *arguments])
    try:
        while process.poll() is None:
            if end.wait(timeout=1):
                process.terminate()
                process.wait(_SECONDS_TO_END)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"the step's process ended with {process.returncode}")
