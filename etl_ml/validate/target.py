"""Whether the target can be learned at all."""

from __future__ import annotations

from collections.abc import Mapping

from etl_ml.spec.error import bounded, listed
from etl_ml.spec.pipeline import Pipeline

_MOST_CLASSES = 100


def check_target(sizes: Mapping[object, int], pipeline: Pipeline) -> dict[str, str]:
    """The problem of the target, if it has one, under the check's name `target`.

    Parameters
    ----------
    sizes : the number of valid rows of each label, in the labels' order

    There must be two classes at least, each with more rows than there are folds; of two, the
    positive one must be known.
    """
    target = pipeline.target
    sensitive = target.column in pipeline.contract.sensitive()
    shown = {label: "a class" if sensitive else bounded(label, 40) for label in sizes}
    classes = listed(f"{shown[label]}: {rows} rows" for label, rows in sizes.items())
    folds = pipeline.training.folds
    if len(sizes) < 2:
        return {"target": f"{target.column} has one class only ({classes}); two are needed."}
    if len(sizes) > _MOST_CLASSES:
        return {
            "target": f"{target.column} has {len(sizes)} different values; "
            f"up to {_MOST_CLASSES} can be told apart as classes."
        }
    if few := [label for label, rows in sizes.items() if rows <= folds]:
        small = listed(f"{shown[label]}: {sizes[label]} rows" for label in few)
        return {
            "target": f"{target.column} has classes with too few rows for training.folds = "
            f"{folds}: {small}. Each needs {folds + 1} rows at least."
        }
    if len(sizes) == 2:
        if target.positive is None and set(sizes) != {0, 1}:
            return {"target": f"{target.column} has the labels {classes}; name target.positive."}
        if target.positive is not None and target.positive not in sizes:
            return {
                "target": f"target.positive {bounded(target.positive)} is not a label of "
                f"{target.column} ({classes})."
            }
    return {}


def check_range(low: float | None, high: float | None, pipeline: Pipeline) -> dict[str, str]:
    """The problem of a target that is predicted as a number: it may not be one and the same."""
    if low is None or high is None or low == high:
        return {"target": f"{pipeline.target.column} has one value only; nothing can be learned."}
    return {}
