"""Curves and tables of an evaluation, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from etl_ml.train.metrics import AnyScores, Scores
from etl_ml.train.regression_metrics import RegressionScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_CURVES = 10
_MOST_BARS = 20
_MOST_POINTS = 3_000
_BLUE = "#2563a8"


def draw(
    scores: AnyScores, classes: Sequence[Any], importance: Sequence[dict[str, Any]], metric: str
) -> dict[str, bytes]:
    """The evaluation's pictures by file name; equal input gives equal bytes."""
    if isinstance(scores, RegressionScores):
        return {
            "predicted.png": _picture(lambda axes: _predicted(axes, scores)),
            "residuals.png": _picture(lambda axes: _residuals(axes, scores)),
            "importance.png": _picture(lambda axes: _importance(axes, importance, metric)),
        }
    kinds = [1] if len(classes) == 2 else list(range(len(classes)))[:_MOST_CURVES]
    return {
        "roc.png": _picture(lambda axes: _roc(axes, scores, classes, kinds)),
        "precision_recall.png": _picture(
            lambda axes: _precision_recall(axes, scores, classes, kinds)
        ),
        "confusion_matrix.png": _picture(lambda axes: _confusion(axes, scores, classes)),
        "calibration.png": _picture(lambda axes: _calibration(axes, scores)),
        "importance.png": _picture(lambda axes: _importance(axes, importance, metric)),
    }


def _picture(paint: Any) -> bytes:
    # Without pyplot: no global state, no window system, and half of the import.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with rc_context({"text.parse_math": False}):  # a dollar in a column's name is a dollar
        figure = Figure(figsize=(5.2, 4.2), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        paint(axes)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _one_against_rest(scores: Scores, kind: int) -> tuple[Any, Any]:
    return (scores.target == kind).astype(int), scores.probabilities[:, kind]


def _roc(axes: Axes, scores: Scores, classes: Sequence[Any], kinds: Sequence[int]) -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    for kind in kinds:
        truth, score = _one_against_rest(scores, kind)
        false_positive, true_positive, _ = roc_curve(truth, score)
        area = roc_auc_score(truth, score)
        axes.plot(false_positive, true_positive, label=f"{classes[kind]}: area {area:.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.set(
        title="ROC curve, test rows", xlabel="False positive rate", ylabel="True positive rate"
    )
    axes.legend(loc="lower right", frameon=False)


def _precision_recall(
    axes: Axes, scores: Scores, classes: Sequence[Any], kinds: Sequence[int]
) -> None:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    for kind in kinds:
        truth, score = _one_against_rest(scores, kind)
        precision, recall, _ = precision_recall_curve(truth, score)
        average = average_precision_score(truth, score)
        axes.plot(recall, precision, label=f"{classes[kind]}: average precision {average:.3f}")
        axes.axhline(truth.mean(), color="grey", linestyle=":", linewidth=1)
    axes.set(
        title="Precision and recall, test rows", xlabel="Recall", ylabel="Precision", ylim=(0, 1.02)
    )
    axes.legend(loc="lower left", frameon=False)


def _confusion(axes: Axes, scores: Scores, classes: Sequence[Any]) -> None:
    counts = scores.confusion()[0].astype(int)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    places = range(len(classes))
    names = [str(label) for label in classes]
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    if len(classes) <= _MOST_CURVES:
        for (true, predicted), count in np.ndenumerate(counts):
            colour = "white" if share[true, predicted] > 0.5 else "black"
            axes.text(predicted, true, f"{count}", ha="center", va="center", color=colour)
    axes.set(title="Confusion matrix, test rows", xlabel="Predicted", ylabel="True")


def _calibration(axes: Axes, scores: Scores) -> None:
    if scores.classes == 2:
        truth, score = _one_against_rest(scores, 1)
    else:  # how often the most probable class is the true one
        score = scores.probabilities.max(axis=1)
        truth = (scores.probabilities.argmax(axis=1) == scores.target).astype(int)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, 11)))
    place = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins = np.unique(place)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    axes.plot(
        [score[place == b].mean() for b in bins],
        [truth[place == b].mean() for b in bins],
        marker="o",
        color=_BLUE,
        label="tenths of the test rows",
    )
    axes.set(
        title="Calibration, test rows", xlabel="Predicted probability", ylabel="Observed share"
    )
    axes.legend(loc="upper left", frameon=False)


def _predicted(axes: Axes, scores: RegressionScores) -> None:
    ends = [min(scores.target.min(), scores.predicted.min())]
    ends.append(max(scores.target.max(), scores.predicted.max()))
    axes.plot(ends, ends, color="grey", linestyle=":", label="perfect")
    shown = slice(None, None, max(1, len(scores.target) // _MOST_POINTS))
    axes.scatter(scores.predicted[shown], scores.target[shown], s=9, alpha=0.5, color=_BLUE)
    told = f"R² {scores.value('r2'):.3f}"
    axes.set(title=f"Predicted and true, test rows, {told}", xlabel="Predicted", ylabel="True")
    axes.legend(loc="upper left", frameon=False)


def _residuals(axes: Axes, scores: RegressionScores) -> None:
    axes.hist(scores.target - scores.predicted, bins=40, color=_BLUE)
    axes.axvline(0, color="grey", linestyle=":")
    axes.set(title="Residuals, test rows", xlabel="True less predicted", ylabel="Rows")


def _importance(axes: Axes, importance: Sequence[dict[str, Any]], metric: str) -> None:
    shown = list(reversed(importance[:_MOST_BARS]))
    axes.barh(
        [entry["column"] for entry in shown],
        [entry["mean"] for entry in shown],
        xerr=[entry["std"] for entry in shown],
        color=_BLUE,
    )
    axes.set(title="Permutation importance, test rows", xlabel=f"Loss of {metric} when shuffled")
