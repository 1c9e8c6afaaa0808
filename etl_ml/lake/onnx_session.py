"""A model's ONNX file, opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_session(model: bytes) -> InferenceSession:
    """An ONNX Runtime session of one thread a call: calls run side by side, on few cores.

    Nothing of it is sent anywhere: since 1.32 ONNX Runtime reports to its makers by default, and
    keeps what it did not get rid of in the home folder (`ORT_DISABLE_TELEMETRY=0` lets it).

    Raises
    ------
    ModuleNotFoundError
        onnxruntime is not installed. What is wrong with a file has exceptions of its own.
    """
    # Read when the library is loaded; its `disable_telemetry_events()` comes too late.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])
