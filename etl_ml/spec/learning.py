"""What the sections that make a model owe to the contract and to each other."""

from collections.abc import Iterable, Mapping
from typing import Any

from etl_ml.spec.contract import MOMENTS, NUMBERS, Column
from etl_ml.spec.error import nearest
from etl_ml.spec.evaluation import Evaluation
from etl_ml.spec.training import CANDIDATES, METRICS, Task, Training
from etl_ml.spec.transformation import Cleaning, Features, Split

_WITHOUT_WEIGHTS = ("k_nearest_neighbors",)


def check_training(training: Training, evaluation: Evaluation, task: Task, target: Column) -> None:
    """Metrics, gates, candidates and options are those of the task.

    Raises
    ------
    ValueError
        Names the key first.
    """
    asked = {"training.metric": training.metric}
    asked |= {f"evaluation.gates.{name}": name for name in evaluation.gates}
    for key, metric in asked.items():
        if metric is not None and metric not in METRICS[task]:
            raise ValueError(
                f"{key}: {metric} is no metric of {task}; there are {', '.join(METRICS[task])}"
            )
    for place, candidate in enumerate(training.candidates or ()):
        if not candidate.is_class and candidate.name not in CANDIDATES[task]:
            raise ValueError(
                f"training.candidates.{place}: {candidate.name} is no {task} estimator; there are "
                f"{', '.join(CANDIDATES[task])}"
            )
        if training.class_weight != "none" and candidate.name in _WITHOUT_WEIGHTS:
            raise ValueError(f"training.class_weight: {candidate.name} knows no weights")
    if task == "classification":
        several = target.allowed is not None and len(target.allowed) > 2
        if several and not training.threshold.is_default:
            raise ValueError("training.threshold: only two classes are told apart by a threshold")
        return
    for key, default in (
        ("threshold", training.threshold.is_default),
        ("calibrate", training.calibrate == "none"),
        ("class_weight", training.class_weight == "none"),
    ):
        if not default:
            raise ValueError(f"training.{key}: is for classification, and the task is regression")
    if target.type not in NUMBERS:
        raise ValueError(
            f"target.column: regression predicts a number, and the column is of type {target.type}"
        )


def check_columns(
    columns: Mapping[str, Column],
    target: str,
    cleaning: Cleaning,
    split: Split,
    features: Features,
    evaluation: Evaluation,
) -> None:
    """Columns that are named are there, and can be what they are named for.

    Raises
    ------
    ValueError
        Names the key first.
    """
    _known("split.column", [split.column] if split.column else [], columns, cleaning)
    _known("features.exclude", features.exclude, columns, cleaning)
    _known("evaluation.slices", evaluation.slices, columns, cleaning)
    if split.column == target:
        raise ValueError("split.column: this is the target; the split may not follow it")
    if target in features.exclude:
        raise ValueError("features.exclude: the target is no feature anyway")
    if split.strategy == "time" and split.column:
        kind = columns[split.column].type
        if kind not in NUMBERS + MOMENTS:
            raise ValueError(
                f"split.column: time needs one of {', '.join(NUMBERS + MOMENTS)}, and "
                f"{split.column} is of type {kind}"
            )
    for name in evaluation.slices:
        if name == target:
            raise ValueError(
                "evaluation.slices: the target is no slice; what a model makes of each class is in "
                "the confusion matrix"
            )
        if columns[name].sensitive:
            raise ValueError(f"evaluation.slices: {name} is sensitive, its values are in no report")


def _known(key: str, names: Iterable[str], columns: Mapping[str, Any], cleaning: Cleaning) -> None:
    for name in names:
        if name not in columns:
            close = nearest(name, columns)
            hint = f"; did you mean {close!r}?" if close else ""
            raise ValueError(f"{key}: {name!r} is not under contract.columns{hint}")
        if name in cleaning.drop_columns:
            raise ValueError(
                f"{key}: cleaning.drop_columns takes {name!r} out; use features.exclude to keep "
                "it from the model alone"
            )
