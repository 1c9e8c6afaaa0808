"""How steps are run: `ETL_ML_EXECUTOR` names the executor."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import dagster as dg

from etl_ml.orchestration.run_end import watched
from etl_ml.spec.error import EtlMlError, nearest

_VARIABLE = "ETL_ML_EXECUTOR"
_DASK_ADDRESS = "ETL_ML_DASK_ADDRESS"
_BROKER = "ETL_ML_CELERY_BROKER"
_BACKEND = "ETL_ML_CELERY_BACKEND"


def executor() -> dg.ExecutorDefinition:
    """The executor that `ETL_ML_EXECUTOR` names; in process by default.

    A process of its own costs some 2.6 CPU seconds a step, more than most steps of a table that
    fits one machine. `dask` runs steps on the cluster at `ETL_ML_DASK_ADDRESS`, or on one of its
    own; `celery` on workers at the broker `ETL_ML_CELERY_BROKER`, which answer through
    `ETL_ML_CELERY_BACKEND`; `k8s` each in a pod, with the settings of Dagster's K8sRunLauncher.

    Raises
    ------
    EtlMlError
        The variable names no executor, or one whose package or address is not there.
    """
    name = named_executor()
    return watched(_EXECUTORS[name]())


def named_executor() -> str:
    """The name that `ETL_ML_EXECUTOR` gives.

    Raises
    ------
    EtlMlError
        It is none of an executor.
    """
    name = os.environ.get(_VARIABLE) or "in_process"
    if name not in _EXECUTORS:
        close = nearest(name, _EXECUTORS)
        raise EtlMlError(
            f"{_VARIABLE}={name!r} is no executor.",
            close=repr(close) if close else None,
            fix=f"set it to one of {', '.join(_EXECUTORS)}, or unset it",
        )
    return name


def _dask() -> Any:
    _of("dask", "distributed")
    from etl_ml.orchestration.dask_executor import dask_executor

    return dask_executor.configured({"address": os.environ.get(_DASK_ADDRESS) or None})


def _celery() -> Any:
    celery = _of("celery", "dagster_celery").celery_executor
    for variable in (_BROKER, _BACKEND):
        if not os.environ.get(variable):
            raise EtlMlError(
                f"{_VARIABLE}='celery' needs {variable}, which is not set.",
                fix=f"set {_BROKER} to the broker's URL, such as amqp://user:password@host//, and "
                f"{_BACKEND} to where answers go, such as rpc:// or redis://host/0",
            )
    # By name, so that Dagster reads them where the run is: a broker's URL has its password in it.
    places = {"broker": {"env": _BROKER}, "backend": {"env": _BACKEND}}
    # What a worker is sent and answers with is text, not objects.
    plain = {"task_serializer": "json", "result_serializer": "json", "accept_content": ["json"]}
    return celery.configured({**places, "config_source": plain})


def _k8s() -> Any:
    return _of("k8s", "dagster_k8s").k8s_job_executor


def _of(extra: str, module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise EtlMlError(
            f"{_VARIABLE}={extra!r} needs {module.replace('_', '-')}, which is not installed.",
            seen=f"there is no module {missing.name}",
            fix=f"pip install 'etl_ml[{extra}]', here and wherever steps run",
        ) from None


_EXECUTORS: dict[str, Callable[[], Any]] = {
    "in_process": lambda: dg.in_process_executor,
    "multiprocess": lambda: dg.multiprocess_executor,
    "dask": _dask,
    "celery": _celery,
    "k8s": _k8s,
}
