"""Whether a new model may take the champion's place: paired, on rows neither has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etl_ml.lake.estimator import UnreadableModel, UntrustedModel
from etl_ml.spec.evaluation import Champion as ChampionSpec
from etl_ml.spec.training import UNBOUNDED
from etl_ml.train.metrics import AnyScores, bootstrap, scores_of, sign_of
from etl_ml.transform.function import FeatureFunctionError
from etl_ml.transform.preprocessor import UnusableFrame

if TYPE_CHECKING:
    import polars as pl

    from etl_ml.train.model import Model

Array = np.ndarray[Any, Any]

_LEAST_COMPARED = 100
_LEAST_ROWS, _LEAST_OF_CLASS = 200, 50
_SLIDE = 2


@dataclass(frozen=True)
class Incumbent:
    """The champion, as a challenger needs to know it.

    Attributes
    ----------
    model : or why it may not be loaded here
    trained_on : text array, the `_etl_ml_row` of its training rows
    history : the test scores of the last champions in the training metric, this one's included
    """

    version: str
    model: Model | UntrustedModel
    trained_on: Array
    history: tuple[float, ...]


def compare(
    challenger: AnyScores,
    rows: pl.DataFrame,
    row_ids: Array,
    units: Array,
    incumbent: Incumbent | None,
    rule: ChampionSpec,
    metric: str,
    classes: Sequence[Any],
    *,
    seed: int,
) -> dict[str, Any] | None:
    """Score both models on the same test rows, less those that the champion was trained on.

    `not_worse` rejects a challenger when the upper bound of the paired difference is below 0, or
    the difference is below -margin, or the challenger is more than two margins behind the best of
    the last champions. `better` wants the lower bound above 0. Differences are signed so that
    larger is better. Under 200 rows or 50 of the rarer class the bounds say nothing, and only the
    difference itself counts.

    Parameters
    ----------
    challenger : scores on the m test rows
    rows : the m test rows as they were before preprocessing, in the same order
    row_ids, units : arrays (m,)

    Returns
    -------
    dict or None
        The report's `champion`; None where there is no champion. `passed` is None where nothing
        was compared, and `reason` says why; `warning` is what too few rows say against the
        challenger. A champion whose types are not trusted here lets nobody pass.
    """
    if incumbent is None:
        return None
    report: dict[str, Any] = {
        "version": incumbent.version,
        "metric": metric,
        "difference": None,
        "low": None,
        "high": None,
        "rule": rule.rule,
        "passed": None,
        "rows": 0,
        "reason": "",
        "warning": None,
    }
    if rule.rule == "ignore":
        return report | {"reason": "evaluation.champion.rule is ignore: the gates decide"}
    unseen = ~np.isin(row_ids, incumbent.trained_on)
    kept = int(unseen.sum())
    report["rows"] = kept
    target = challenger.target[unseen]
    lacking = not kept or (bool(classes) and len(np.unique(target)) < len(classes))
    few = kept < _LEAST_COMPARED or 2 * kept < len(row_ids)
    if few:
        what = "is new" if kept == 1 else "are new"
        report["reason"] = (
            f"{kept} of {len(row_ids)} test rows {what} to the champion, fewer than "
            f"{max(_LEAST_COMPARED, -(-len(row_ids) // 2))}: the gates decide"
        )
    if lacking:
        known = report["reason"] or "the rows new to the champion lack a class: the gates decide"
        return report | {"reason": known}
    answers = _answers(incumbent.model, rows.filter(unseen), classes)
    if isinstance(answers, _Untrusted):
        return report | {"passed": False, "reason": answers}
    if isinstance(answers, str) or isinstance(incumbent.model, UntrustedModel):
        return report | {"reason": report["reason"] or f"{answers}: the gates decide"}
    champion = scores_of(target, answers, incumbent.model.threshold)
    new = challenger.on(unseen)
    sign = sign_of(metric)
    if few:
        return report | {"warning": _hint(sign, new, champion, metric, rule.margin, kept)}
    drawn = bootstrap([new, champion], [metric], units[unseen], seed=seed)
    differences = sign * (drawn[0, 0] - drawn[1, 0])
    tail = 50 * (1 - rule.confidence)
    low, high = np.nanpercentile(differences, [tail, 100 - tail])
    difference = sign * (new.value(metric) - champion.value(metric))
    rarer = int(np.bincount(target).min()) if classes else kept
    small = kept < _LEAST_ROWS or rarer < _LEAST_OF_CLASS
    margin = rule.margin
    if metric in UNBOUNDED:  # in units of its own: the margin is a share of the champion's value
        margin *= champion.value(metric)
    best = max((sign * value for value in incumbent.history), default=None)
    passed, reason = _judge(
        rule.rule,
        difference,
        float(low),
        float(high),
        margin,
        small,
        None if best is None else sign * challenger.value(metric) - best,
    )
    if small:
        of_class = f", {rarer} of the rarer class" if classes else ""
        reason += f" ({kept} rows{of_class}: too few for the interval to count)"
    found = {"difference": difference, "low": float(low), "high": float(high)}
    return report | found | {"passed": passed, "reason": reason}


class _Untrusted(str):
    """Why the champion was not asked, though it is sound."""


def _answers(
    model: Model | UntrustedModel, rows: pl.DataFrame, classes: Sequence[Any]
) -> Array | str:
    """The champion's answers, in the challenger's order of classes, or why there are none."""
    if isinstance(model, UnreadableModel):
        return f"the champion cannot be loaded ({model.what.rstrip('.')})"
    if isinstance(model, UntrustedModel):
        # Whoever takes a class out of the candidates does not mean to lose the champion's guard.
        return _Untrusted(
            f"it cannot be compared with the champion ({model.what.rstrip('.')}): {model.fix}, or "
            "set evaluation.champion.rule: ignore"
        )
    known = list(model.classes)
    if set(known) != set(classes):
        return f"the champion knows the classes {known}, the challenger {list(classes)}"
    absent = [name for name in model.preprocessor.columns if name not in rows.columns]
    if absent:
        return f"the champion needs columns that are gone ({', '.join(absent[:5])})"
    try:
        answers = model.answers(rows)
    except (UnusableFrame, FeatureFunctionError) as error:  # a type, or a function, has changed
        return f"the champion cannot read today's rows ({error.what.rstrip('.')})"
    return answers[:, [known.index(label) for label in classes]] if classes else answers


def _hint(
    sign: float, new: AnyScores, champion: AnyScores, metric: str, margin: float, rows: int
) -> str | None:
    """What few rows say against a challenger; nobody is refused on them."""
    difference = sign * (new.value(metric) - champion.value(metric))
    if metric in UNBOUNDED:
        margin *= champion.value(metric)
    if not difference < -margin:
        return None
    return (
        f"on the {rows} rows new to the champion {metric} is {-difference:.4f} worse than the "
        "champion's, too few to tell it from chance"
    )


def _judge(
    rule: str,
    difference: float,
    low: float,
    high: float,
    margin: float,
    small: bool,
    behind_best: float | None,
) -> tuple[bool, str]:
    if rule == "better":
        passed = difference > 0 if small else low > 0
        return passed, "better" if passed else "not shown to be better than the champion"
    if not small and high < 0:
        return False, "worse than the champion"
    if difference < -margin:
        return False, f"worse than the champion by more than the margin {margin:.4g}"
    if behind_best is not None and behind_best < -_SLIDE * margin:
        return False, f"more than {_SLIDE} margins behind the best of the last champions"
    return True, "not worse than the champion"
