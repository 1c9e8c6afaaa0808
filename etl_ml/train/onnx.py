"""The estimator as ONNX, where it can be had, and how far its answers are from the original's.

ONNX computes in float32; scikit-learn's and LightGBM's trees compare in double. A row that stands
at a limit may fall to the other side, and so the difference is measured and not assumed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from etl_ml.lake.onnx_session import open_session
from etl_ml.spec.error import bounded
from etl_ml.train.metrics import answers_of

Array = np.ndarray[Any, Any]

TOLERANCE = 1e-4
"""Largest difference in a probability, or share of the spread of a number, that is accepted."""
_DEEPEST = 1_000
"""ONNX Runtime builds a tree by recursion: one of some thousand levels ends the process."""
_ASKED = 5_000
_OPSET = 17
_NEEDED = ("onnxruntime", "onnxmltools", "skl2onnx")


@dataclass(frozen=True)
class Onnx:
    """A converted estimator, from float32 features (n, k) to its answers, or why there is none.

    Attributes
    ----------
    model : bytes of the ONNX file; None where it could not be had
    report : `converted`, `max_abs_difference` on training rows and its `tolerance`, and the
        `reason` if it was not
    """

    model: bytes | None
    report: dict[str, Any]


def convert(estimator: Any, features: Array) -> Onnx:
    """Convert a fitted estimator, and compare the answers of both on up to 5,000 training rows."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        return _without(f"{', '.join(missing)} not installed: pip install 'etl_ml[serve]'")
    if type(estimator).__module__.startswith("catboost."):
        return _without("skl2onnx knows no CatBoost model")
    if (levels := _levels(estimator)) > _DEEPEST:
        return _without(
            f"a tree is {levels:,} levels deep, and ONNX Runtime takes {_DEEPEST:,}; "
            "a max_depth or min_samples_leaf keeps it flatter"
        )
    asked = features[:: max(1, len(features) // _ASKED)][:_ASKED]
    expected = answers_of(estimator, asked)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _converted(estimator, features.shape[1])
            found = ask(model, asked)
    except Exception as error:
        # Converters fail in ways of their own, and a model without ONNX is a model.
        return _without(f"{type(error).__name__}: {bounded(str(error), 200)}")
    if found.shape != expected.shape:
        return _without(f"ONNX answers with shape {found.shape}, the model with {expected.shape}")
    difference = float(np.abs(found - expected).max(initial=0.0))
    scale = 1.0 if expected.ndim == 2 else max(float(np.ptp(expected)), np.finfo(float).tiny)
    tolerance = TOLERANCE * scale
    converted = difference <= tolerance  # NaN is no answer
    reason = f"its answers differ by up to {difference:.2g} in float32; {tolerance:.2g} is allowed"
    report = {
        "converted": converted,
        "max_abs_difference": difference,
        "tolerance": tolerance,
        "reason": None if converted else reason,
    }
    return Onnx(model if converted else None, report)


def ask(model: bytes, features: Array) -> Array:
    """What an ONNX model says: float64 (n, k) probabilities, or (n,) numbers."""
    session = open_session(model)
    outputs = session.run(None, {session.get_inputs()[0].name: features})
    answers = np.asarray(outputs[-1], np.float64)
    return answers if len(outputs) > 1 else answers.ravel()


def _levels(estimator: Any) -> int:
    """How deep the deepest of scikit-learn's trees is, inside other estimators too; 0 without."""
    if (tree := getattr(estimator, "tree_", None)) is not None:
        return int(tree.max_depth)
    inner = [getattr(estimator, "estimator", None)]
    for name in ("estimators_", "calibrated_classifiers_"):
        inner += list(np.ravel(np.asarray(getattr(estimator, name, ()), dtype=object)))
    inner += [step for _, step in getattr(estimator, "steps", ())]
    return max((_levels(one) for one in inner if one is not None), default=0)


def _without(reason: str) -> Onnx:
    return Onnx(
        None, {"converted": False, "max_abs_difference": None, "tolerance": None, "reason": reason}
    )


def _converted(estimator: Any, width: int) -> bytes:
    from skl2onnx import to_onnx, update_registered_converter
    from skl2onnx.common.data_types import FloatTensorType

    _register(update_registered_converter)
    options: dict[Any, Any] = {}
    if hasattr(estimator, "predict_proba"):
        options = {id(estimator): {"zipmap": False}}
    proto = to_onnx(
        estimator,
        initial_types=[("features", FloatTensorType([None, width]))],
        options=options,
        target_opset={"": _OPSET, "ai.onnx.ml": 3},
    )
    data: bytes = proto.SerializeToString()
    return data


def _register(update: Any) -> None:
    """Teach skl2onnx the boosters, also inside a calibrated classifier or a pipeline."""
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes as classifier,
    )
    from skl2onnx.common.shape_calculator import (
        calculate_linear_regressor_output_shapes as regressor,
    )

    flags = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    if find_spec("lightgbm"):
        from lightgbm import LGBMClassifier, LGBMRegressor
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        name, split = "LightGbmLGBM", {"split": None}
        update(LGBMClassifier, f"{name}Classifier", classifier, convert_lightgbm, options=flags)
        update(LGBMRegressor, f"{name}Regressor", regressor, convert_lightgbm, options=split)
    if find_spec("xgboost"):
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from xgboost import XGBClassifier, XGBRegressor

        update(XGBClassifier, "XGBoostXGBClassifier", classifier, convert_xgboost, options=flags)
        update(XGBRegressor, "XGBoostXGBRegressor", regressor, convert_xgboost)
