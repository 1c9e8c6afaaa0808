"""Executors: by name, for real on Dask and Celery, and as the pods that Kubernetes is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes_validate
import psutil
import pytest
from dagster._serdes import serialize_value
from distributed import Client, LocalCluster

import etl_ml
from etl_ml.orchestration import dask_executor
from etl_ml.spec import EtlMlError
from etl_ml_tests.project import Project, attributes, loans
from etl_ml_tests.servers.process import Server, free_ports, running
from etl_ml_tests.servers.redis import Redis

REPOSITORY = Path(__file__).parents[2]
TO_CLEAN = "key:loans/raw_data or key:loans/validated_data or key:loans/clean_data"


@pytest.fixture(autouse=True)
def no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ETL_ML_DASK_ADDRESS", "ETL_ML_CELERY_BROKER", "ETL_ML_CELERY_BACKEND"):
        monkeypatch.delenv(name, raising=False)


# -- By name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["in_process", "multiprocess", "dask", "celery", "k8s"])
def test_each_executor_loads(name: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_ML_EXECUTOR", name)
    monkeypatch.setenv("ETL_ML_CELERY_BROKER", "redis://:the-secret@host/0")
    monkeypatch.setenv("ETL_ML_CELERY_BACKEND", "redis://:the-secret@host/1")
    project.add()
    with project.loaded() as defs:
        job = defs.resolve_job_def("loans_job")
        assert job.executor_def.name == etl_ml.executor().name == name
        assert "the-secret" not in serialize_value(job.get_job_snapshot())


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("dask", "distributed", "etl_ml[dask]"),
        ("celery", "dagster_celery", "etl_ml[celery]"),
        ("k8s", "dagster_k8s", "etl_ml[k8s]"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_ML_EXECUTOR", name)
    monkeypatch.setenv("ETL_ML_CELERY_BROKER", "redis://host/0")
    monkeypatch.setenv("ETL_ML_CELERY_BACKEND", "redis://host/1")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EtlMlError) as raised:
        etl_ml.executor()
    assert f"pip install '{package}'" in str(raised.value)


def test_a_name_of_no_executor_is_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_ML_EXECUTOR", "celary")
    with pytest.raises(EtlMlError, match="'celery'"):
        etl_ml.executor()


def test_celery_without_a_broker_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_ML_EXECUTOR", "celery")
    with pytest.raises(EtlMlError, match="ETL_ML_CELERY_BROKER"):
        etl_ml.executor()
    monkeypatch.setenv("ETL_ML_CELERY_BROKER", "redis://host/0")
    with pytest.raises(EtlMlError, match="ETL_ML_CELERY_BACKEND, which is not set"):
        etl_ml.executor()


def test_the_default_imports_none_of_them() -> None:
    code = (
        "import sys, etl_ml; etl_ml.executor(); "
        "print({m for m in sys.modules if m in {'celery', 'distributed', 'dask', 'kubernetes'}})"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ETL_ML_EXECUTOR"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "set()"


# -- For real --------------------------------------------------------------------------------------


def _steps_run_and_stop(project: Project, **environment: str) -> None:
    """A good run to `clean_data`; then one whose rows break the contract, and nothing behind it."""
    home = project.root / "home"
    home.mkdir()
    python_path = os.pathsep.join([str(project.root), str(REPOSITORY)])
    environment |= {"DAGSTER_HOME": str(home), "PYTHONPATH": python_path}
    project.add()
    done = project.run(project.dagster_materialize(TO_CLEAN), **environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert project.lake.table("loans", "clean_data").to_polars().height == 600
    project.add(data=loans().with_columns(age=5))
    failed = project.run(project.dagster_materialize(TO_CLEAN), **environment)
    assert failed.returncode != 0
    assert "age: min (600 rows)" in failed.stdout + failed.stderr
    assert project.lake.versions("loans", "raw_data") == ["0000000001", "0000000002"]
    assert project.lake.versions("loans", "quarantined_data") == ["0000000001", "0000000002"]
    assert project.lake.versions("loans", "clean_data") == ["0000000001"]


class DaskScheduler(Server):
    name = "Dask scheduler"
    install = "pip install 'etl_ml[dask]'"
    program = "dask"

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return ["scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]

    def ask(self) -> None:
        Client(self.address, timeout=2, set_as_default=False).close()


@contextmanager
def _worker(
    command: list[str], log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _dask_worker(project: Project, address: str) -> tuple[list[str], Path, dict[str, str]]:
    command = project.script("dask", "worker", address, "--host", "127.0.0.1", "--no-dashboard")
    path = os.pathsep.join([str(project.root), str(REPOSITORY)])
    log, environment = project.root / "worker.log", project.environment(PYTHONPATH=path)
    return [*command, "--nthreads", "1", "--no-nanny"], log, environment


def test_steps_run_on_workers_of_a_dask_cluster(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        running(DaskScheduler, tmp_path_factory) as scheduler,
        _worker(*_dask_worker(project, scheduler.address)),
    ):
        address = {"ETL_ML_DASK_ADDRESS": scheduler.address}
        _steps_run_and_stop(project, ETL_ML_EXECUTOR="dask", **address)


def test_a_step_whose_dask_worker_is_killed_is_told(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        running(DaskScheduler, tmp_path_factory) as scheduler,
        _worker(*_dask_worker(project, scheduler.address)) as worker,
        dask_executor.DaskStepHandler(scheduler.address) as handler,
    ):
        # Any command of Dagster's that lasts: a code server.
        port, key = str(free_ports(1)[0]), "run-step-0"
        handler.begin(key, ["api", "grpc", "-p", port, "-m", "etl_ml.definitions"])
        _until(lambda: dask_executor._worker_of(key, handler._client))
        assert handler.problem(key) is None
        _until(lambda: _children(worker.pid))
        [child] = _children(worker.pid)
        try:
            worker.kill()
            _until(lambda: handler.problem(key))
            told = handler.problem(key)
        finally:
            os.kill(child, 9)
        assert told is not None
        assert "which ran the step, is gone" in told
        # Another worker does not run it again.
        with _worker(*_dask_worker(project, scheduler.address)):
            _until(lambda: "On its Dask worker" in (handler.problem(key) or ""))


def _until(true: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def test_a_dask_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_executor, "_SECONDS_TO_CONNECT", 1)
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(EtlMlError) as raised, dask_executor.DaskStepHandler(address):
        pass
    assert address in str(raised.value)
    assert "within 1 s" in str(raised.value)


@pytest.fixture
def dask_client() -> Iterator[Client]:
    cluster = LocalCluster(processes=False, n_workers=1, dashboard_address=None)
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def test_a_step_is_not_begun_twice_when_its_worker_is_lost(dask_client: Client) -> None:
    dask_client.submit(dask_executor.run_step, ["--version"], "run-step-0", pure=False).result(60)
    again = dask_client.submit(dask_executor.run_step, ["--version"], "run-step-0", pure=False)
    with pytest.raises(RuntimeError, match="which ran the step, is gone"):
        again.result(60)


def test_a_step_whose_process_dies_is_told(dask_client: Client) -> None:
    step = dask_client.submit(dask_executor.run_step, ["no-command"], "run-other-0", pure=False)
    with pytest.raises(RuntimeError, match="ended with 2"):
        step.result(60)


def test_steps_run_on_celery_workers(project: Project, redis: Redis, tmp_path: Path) -> None:
    places = {"ETL_ML_CELERY_BROKER": redis.url(0), "ETL_ML_CELERY_BACKEND": redis.url(1)}
    settings = REPOSITORY / "ops" / "celery"
    path = os.pathsep.join([str(project.root), str(REPOSITORY), str(settings)])
    command = project.script(
        *("celery", "-A", "dagster_celery.app", "worker", "-Q", "dagster", "--concurrency", "1")
    )
    log = tmp_path / "worker.log"
    with _worker(command, log, project.environment(PYTHONPATH=path, **places)):
        _steps_run_and_stop(project, ETL_ML_EXECUTOR="celery", **places)
    assert redis.password not in log.read_text()


# -- On Kubernetes ---------------------------------------------------------------------------------

ASKED: dict[str, Any] = {"requests": {"cpu": 2, "memory": "6Gi"}, "limits": {"memory": "8Gi"}}


def _container(tags: dict[str, str], default: dict[str, Any]) -> dict[str, Any]:
    """The container of the pod that dagster-k8s makes for a step, held against the schema."""
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import (
        DagsterK8sJobConfig,
        construct_dagster_k8s_job,
        get_user_defined_k8s_config,
    )
    from kubernetes.client import ApiClient

    of_location = K8sContainerContext.create_from_config({"k8s": {"resources": default}})
    of_step = K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(tags))
    job = construct_dagster_k8s_job(
        job_config=DagsterK8sJobConfig(job_image="etl-ml:1", dagster_home="/opt/dagster"),
        args=["dagster", "api", "execute_step"],
        job_name="step",
        user_defined_k8s_config=of_location.merge(of_step).run_k8s_config,
    )
    document = ApiClient().sanitize_for_serialization(job)
    kubernetes_validate.validate(document, "1.37", strict=True)
    [container] = document["spec"]["template"]["spec"]["containers"]
    return container["resources"]


def test_what_an_asset_asks_for_is_what_its_pod_gets(project: Project) -> None:
    project.add(attributes(resources={"trained_model": ASKED}, predictions={}))
    with project.loaded() as defs:
        assets = defs.resolve_job_def("loans_job").graph
        tags = {node.name: node.definition.tags for node in assets.nodes}
    default = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "4Gi"}}
    assert _container(tags["loans__trained_model"], default) == {
        "requests": {"cpu": "2", "memory": "6Gi"},
        "limits": {"memory": "8Gi"},
    }
    assert _container(tags["loans__clean_data"], default) == default


def test_a_request_above_the_default_limit_still_makes_a_pod(project: Project) -> None:
    small = {"requests": {"memory": "6Gi"}}
    project.add(attributes(resources={"predictions": small}, predictions={}))
    with project.loaded() as defs:
        ops = {op.name: op.tags for op in defs.resolve_job_def("loans_job").all_node_defs}
    got = _container(ops["loans__predict"], {"limits": {"memory": "4Gi"}})
    assert got == {"requests": {"memory": "6Gi"}, "limits": {"memory": "6Gi"}}


@pytest.mark.parametrize(
    ("executor", "runs_steps"),
    [("in_process", True), ("multiprocess", True), ("k8s", False), ("dask", False)],
)
def test_a_run_asks_for_what_its_steps_need_where_it_runs_them(
    executor: str, runs_steps: bool, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_ML_EXECUTOR", executor)
    small = {"requests": {"memory": "1Gi"}}
    project.add(attributes(resources={"trained_model": ASKED, "raw_data": small}))
    with project.loaded() as defs:
        tags = defs.resolve_job_def("loans_job").tags
    if not runs_steps:
        assert "dagster-k8s/config" not in tags
        return
    asked = json.loads(tags["dagster-k8s/config"])["container_config"]["resources"]
    assert asked == {"requests": {"cpu": "2", "memory": "6Gi"}, "limits": {"memory": "8Gi"}}


def test_a_pipeline_that_asks_for_nothing_has_no_tags(project: Project) -> None:
    project.add()
    with project.loaded() as defs:
        job = defs.resolve_job_def("loans_job")
        assert not [op for op in job.all_node_defs if "dagster-k8s/config" in op.tags]
        assert isinstance(job, dg.JobDefinition)
        assert "dagster-k8s/config" not in job.tags
