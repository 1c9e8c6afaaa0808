"""What is not given to ONNX Runtime, because it would end the process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from etl_ml.train.onnx import convert

# Of 6,000 numbers the even ones: each split takes one off an end.
NUMBERS = np.arange(6_000, dtype=np.float32)[:, None]
EVEN = (np.arange(6_000) % 2 == 0).astype(int)


@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(random_state=0),
        RandomForestClassifier(2, bootstrap=False, random_state=0),
        CalibratedClassifierCV(DecisionTreeClassifier(random_state=0), cv=2),
    ],
    ids=["tree", "forest", "calibrated"],
)
def test_a_tree_of_very_many_levels_is_not_converted_and_the_reason_is_told(estimator: Any) -> None:
    found = convert(estimator.fit(NUMBERS, EVEN), NUMBERS)
    assert found.model is None
    assert "levels deep, and ONNX Runtime takes 1,000" in found.report["reason"]


def test_an_ordinary_tree_is_converted() -> None:
    tree = DecisionTreeClassifier(max_depth=900, random_state=0).fit(NUMBERS, EVEN)
    assert convert(tree, NUMBERS).report["converted"]
