from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from onnx import TensorProto, helper

_ASK = """
import sys
import numpy as np
from etl_ml.lake.onnx_session import open_session
session = open_session(open(sys.argv[1], "rb").read())
print(session.run(None, {"x": np.array([1.5], np.float32)})[0].tolist())
"""


def test_a_model_is_asked_and_nothing_is_kept_for_the_librarys_makers(tmp_path: Path) -> None:
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", shapes[:1], shapes[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "home").mkdir()
    told = {name: str(tmp_path / "home") for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    kept = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(tmp_path / "model.onnx")],
        env=kept | told | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[-1.5]"
    assert list((tmp_path / "home").iterdir()) == []
