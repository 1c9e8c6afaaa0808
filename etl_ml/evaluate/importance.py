"""What the model looks at: how much worse it gets when a column's values are shuffled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from etl_ml.train.metrics import answers_of, scores_of, sign_of

if TYPE_CHECKING:
    from etl_ml.train.model import Model

_REPEATS = 5
_MOST_ROWS = 5_000


def permutation_importance(
    model: Model,
    features: np.ndarray[Any, Any],
    target: np.ndarray[Any, Any],
    metric: str,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """The loss in the metric when a column is shuffled, most important first.

    All features of one column are shuffled together, five times; of more than 5,000 rows a random
    5,000 are used.

    References
    ----------
    Breiman (2001), Random Forests, section 10; Fisher, Rudin, Dominici (2019), JMLR 20.
    """
    rng = np.random.default_rng(seed)
    if len(target) > _MOST_ROWS:
        chosen = np.sort(rng.choice(len(target), _MOST_ROWS, replace=False))
        features, target = features[chosen], target[chosen]

    def score(values: np.ndarray[Any, Any]) -> float:
        return scores_of(target, answers_of(model.estimator, values), model.threshold).value(metric)

    sign = sign_of(metric)
    before = score(features)
    source = np.asarray(model.preprocessor.source_of())
    found = []
    for column in model.preprocessor.kinds_:
        places = np.flatnonzero(source == column)
        if not len(places):
            continue
        drops = []
        for _ in range(_REPEATS):
            shuffled = features.copy()
            shuffled[:, places] = features[rng.permutation(len(features))][:, places]
            drops.append(sign * (before - score(shuffled)))
        found.append(
            {"column": column, "mean": float(np.mean(drops)), "std": float(np.std(drops, ddof=1))}
        )
    return sorted(found, key=lambda entry: -entry["mean"])
