"""How steps are run."""

from __future__ import annotations

import os

import dagster as dg

from etl_ml.orchestration.run_end import watched
from etl_ml.spec.error import EtlMlError, nearest

_VARIABLE = "ETL_ML_EXECUTOR"


def executor() -> dg.ExecutorDefinition:
    """The executor that `ETL_ML_EXECUTOR` names; in process by default.

    A process of its own costs some 2.6 CPU seconds a step, more than most steps of a table that
    fits one machine.

    Raises
    ------
    EtlMlError
        The variable names no executor.
    """
    executors = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}
    name = os.environ.get(_VARIABLE) or "in_process"
    if name not in executors:
        close = nearest(name, executors)
        raise EtlMlError(
            f"{_VARIABLE}={name!r} is no executor.",
            close=repr(close) if close else None,
            fix=f"set it to one of {', '.join(executors)}, or unset it",
        )
    return watched(executors[name])
