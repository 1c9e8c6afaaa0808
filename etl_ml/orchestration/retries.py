"""Retries that know what heals: a server that is gone comes back, a broken contract does not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import dagster as dg

from etl_ml.spec.error import EtlMlError

WAITS = (10.0, 40.0, 160.0)
"""Seconds before each further attempt of a step; within one, readers and writers wait, too."""

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def healing(step: Any) -> Iterator[None]:
    """Ask for the step again, after a while, where what went wrong may heal.

    Parameters
    ----------
    step : the context of the step that is running

    Raises
    ------
    RetryRequested
        From the error, which is told if all attempts fail.
    """
    try:
        yield
    except EtlMlError as error:
        if error.heals:
            raise again(step) from error
        raise


def again(step: Any) -> dg.RetryRequested:
    """What to raise for another attempt."""
    done = min(step.previous_attempt_count, len(WAITS) - 1)
    return dg.RetryRequested(max_retries=len(WAITS), seconds_to_wait=WAITS[done])


def step_of(context: Any) -> Any:
    """The step's context from that of an asset or an op."""
    return getattr(context, "op_execution_context", context).get_step_execution_context()


def heals(compute: F) -> F:
    """An asset's function whose first parameter is `context`, with `healing` around it."""
    if inspect.isgeneratorfunction(compute):

        @functools.wraps(compute)
        def generates(context: Any, **inputs: Any) -> Iterator[Any]:
            with healing(step_of(context)):
                yield from compute(context, **inputs)

        return generates  # type: ignore[return-value]

    @functools.wraps(compute)
    def returns(context: Any, **inputs: Any) -> Any:
        with healing(step_of(context)):
            return compute(context, **inputs)

    return returns  # type: ignore[return-value]
