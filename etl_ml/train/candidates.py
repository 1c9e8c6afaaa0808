"""The estimators that can be tried, each with the types that its model file may hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from etl_ml.spec.error import EtlMlError, listed, nearest
from etl_ml.spec.training import Candidate

# Above this many cells a second thread pays for itself.
_PARALLEL_CELLS = 2_000_000


class UnknownParameter(EtlMlError):
    """A candidate was given a parameter that its estimator does not have."""


def build(candidate: Candidate, *, seed: int, cells: int) -> Any:
    """An unfitted scikit-learn classifier.

    Parameters
    ----------
    seed : for the estimators that draw
    cells : rows times features; small problems run in one thread

    Raises
    ------
    UnknownParameter
        Names the parameter and the nearest valid one.
    """
    jobs = -1 if cells > _PARALLEL_CELLS else 1
    estimator = _BUILDERS[candidate.name](seed, jobs)
    inner = _innermost(estimator)
    valid = inner.get_params(deep=False)
    for name in candidate.params:
        if name not in valid:
            close = nearest(name, valid)
            raise UnknownParameter(
                f"{candidate.name} has no parameter {name!r}.",
                where="training.candidates",
                close=repr(close) if close else None,
                fix=f"its parameters are {listed(sorted(valid), 40)}",
            )
    inner.set_params(**candidate.params)
    return estimator


def _innermost(estimator: Any) -> Any:
    """The estimator that the candidate is named for."""
    if hasattr(estimator, "steps"):
        return _innermost(estimator[-1])
    return _innermost(estimator.estimator) if hasattr(estimator, "ensemble") else estimator


def _scaled(estimator: Any) -> Any:
    """For estimators that measure distances or shrink coefficients."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), estimator)


def _logistic_regression(seed: int, jobs: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return _scaled(LogisticRegression(max_iter=1000, random_state=seed))


def _decision_tree(seed: int, jobs: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=seed)


def _random_forest(seed: int, jobs: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(random_state=seed, n_jobs=jobs)


def _extra_trees(seed: int, jobs: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(random_state=seed, n_jobs=jobs)


def _gradient_boosting(seed: int, jobs: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(random_state=seed)


def _hist_gradient_boosting(seed: int, jobs: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed)


def _adaboost(seed: int, jobs: int) -> Any:
    from sklearn.ensemble import AdaBoostClassifier

    return AdaBoostClassifier(random_state=seed)


def _k_nearest_neighbors(seed: int, jobs: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return _scaled(KNeighborsClassifier(n_jobs=jobs))


def _svm(seed: int, jobs: int) -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    # Distances to the hyperplane become probabilities by Platt's method (1999).
    return _scaled(CalibratedClassifierCV(SVC(random_state=seed), cv=3, ensemble=False))


def _lightgbm(seed: int, jobs: int) -> Any:
    from lightgbm import LGBMClassifier

    # Deterministic and row-wise: equal results whatever the number of threads.
    return LGBMClassifier(
        random_state=seed, n_jobs=jobs, deterministic=True, force_row_wise=True, verbosity=-1
    )


_BUILDERS: dict[str, Callable[[int, int], Any]] = {
    "logistic_regression": _logistic_regression,
    "decision_tree": _decision_tree,
    "random_forest": _random_forest,
    "extra_trees": _extra_trees,
    "gradient_boosting": _gradient_boosting,
    "hist_gradient_boosting": _hist_gradient_boosting,
    "adaboost": _adaboost,
    "k_nearest_neighbors": _k_nearest_neighbors,
    "svm": _svm,
    "lightgbm": _lightgbm,
}
