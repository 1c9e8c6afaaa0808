"""What computes the answers: ONNX Runtime, or the estimator itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from etl_ml.lake.onnx_session import open_session
from etl_ml.serve.missing_extra import needs_extra

if TYPE_CHECKING:
    from etl_ml.deploy import Package

Array = np.ndarray[Any, Any]


class Runtime(Protocol):
    """From float32 features (n, k) to probabilities (n, classes), or numbers (n,), as float64."""

    name: str

    def answers(self, features: Array) -> Array: ...


class Onnx:
    """ONNX Runtime."""

    name = "onnx"

    def __init__(self, model: bytes) -> None:
        with needs_extra("serve"):
            self._session = open_session(model)
        outputs = self._session.get_outputs()
        # Of a classifier the second output has the probabilities; its labels are not asked for.
        self._input, self._outputs = self._session.get_inputs()[0].name, [outputs[-1].name]
        self._numbers = len(outputs) == 1

    def answers(self, features: Array) -> Array:
        found = self._session.run(self._outputs, {self._input: features})[0].astype(np.float64)
        return found.ravel() if self._numbers else found  # type: ignore[no-any-return]


class Skops:
    """The estimator of `model.skops`, through scikit-learn."""

    name = "skops"

    def __init__(self, package: Package) -> None:
        from etl_ml.train.metrics import answers_of

        self._estimator, self._answers_of = package.model.estimator, answers_of
        # A pool of threads for a handful of rows costs more than it saves.
        if "n_jobs" in self._estimator.get_params(deep=False):
            self._estimator.set_params(n_jobs=1)

    def answers(self, features: Array) -> Array:
        return self._answers_of(self._estimator, features)
