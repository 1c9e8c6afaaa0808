"""The estimators that can be tried, by name or as `module:Class`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from etl_ml.spec.error import EtlMlError, listed, nearest
from etl_ml.spec.training import EXTRAS, Candidate, Task
from etl_ml.transform.named import find_named

# Above this many cells a second thread pays for itself.
_PARALLEL_CELLS = 2_000_000
EARLY_STOPPING = "early_stopping_rounds"
BOOSTED = ("lightgbm", "xgboost", "catboost")
"""Candidates that take `early_stopping_rounds`."""


class UnknownParameter(EtlMlError):
    """A candidate was given a parameter that its estimator does not have."""


class UnknownEstimator(EtlMlError):
    """A candidate whose class, or library, is not there."""


def build(
    candidate: Candidate,
    params: Mapping[str, Any] | None = None,
    *,
    task: Task = "classification",
    seed: int,
    cells: int,
) -> Any:
    """An unfitted scikit-learn estimator.

    Parameters
    ----------
    params : in place of the candidate's own
    seed : for the estimators that draw
    cells : rows times features; small problems run in one thread

    Raises
    ------
    UnknownParameter
        Names the parameter and the nearest valid one.
    UnknownEstimator
        `module:Class` cannot be imported, or an optional library is not installed.
    """
    given = dict(candidate.params if params is None else params)
    given.pop(EARLY_STOPPING if candidate.name in BOOSTED else "", None)
    jobs = -1 if cells > _PARALLEL_CELLS else 1
    if candidate.is_class:
        estimator = _of_class(candidate.name, task, seed)
    else:
        _installed(candidate.name)
        estimator = _BUILDERS[candidate.name](task == "classification", seed, jobs)
    inner = innermost(estimator)
    # CatBoost's own get_params gives those alone that were set.
    valid = [*inner.get_params(deep=False), *inspect.signature(type(inner)).parameters]
    for name in given:
        if name not in valid:
            close = nearest(name, valid)
            raise UnknownParameter(
                f"{candidate.name} has no parameter {name!r}.",
                where="training.candidates",
                close=repr(close) if close else None,
                fix=f"its parameters are {listed(sorted(set(valid)), 40)}",
            )
    inner.set_params(**given)
    return estimator


def innermost(estimator: Any) -> Any:
    """The estimator that the candidate is named for."""
    if hasattr(estimator, "steps"):
        return innermost(estimator[-1])
    return innermost(estimator.estimator) if hasattr(estimator, "ensemble") else estimator


def find_class(name: str) -> type:
    """Import `module:Class`.

    Raises
    ------
    UnknownEstimator
        There is no such module or class, or it is no scikit-learn estimator.
    """
    found: type = find_named(
        name,
        what=f"candidate {name!r}",
        key="training.candidates",
        kind="class",
        error=UnknownEstimator,
    )
    return found


def _of_class(name: str, task: Task, seed: int) -> Any:
    from sklearn.base import is_classifier, is_regressor

    kind = find_class(name)
    try:
        estimator = kind()
        params = estimator.get_params(deep=False)
    except (TypeError, AttributeError) as error:
        raise UnknownEstimator(
            f"candidate {name!r} is no scikit-learn estimator: {error}.",
            where="training.candidates",
            fix="give it get_params and set_params, and a default for every parameter",
        ) from None
    fits = is_classifier(estimator) if task == "classification" else is_regressor(estimator)
    if not fits:
        raise UnknownEstimator(
            f"candidate {name!r} is not for {task}.",
            where="training.candidates",
            fix=f"derive it from sklearn.base.{'Classifier' if 'class' in task else 'Regressor'}"
            "Mixin first, or name another class",
        )
    if task == "classification" and not hasattr(estimator, "predict_proba"):
        raise UnknownEstimator(
            f"candidate {name!r} gives no probabilities.",
            where="training.candidates",
            fix="name a class that has predict_proba",
        )
    if params.get("random_state", 0) is None:
        estimator.set_params(random_state=seed)
    return estimator


def _installed(name: str) -> None:
    if name in EXTRAS and find_spec(name) is None:
        raise UnknownEstimator(
            f"candidate {name!r} needs a library that is not installed.",
            where="training.candidates",
            fix=f"pip install 'etl_ml[{EXTRAS[name]}]'",
        )


def _scaled(estimator: Any) -> Any:
    """For estimators that measure distances or shrink coefficients."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), estimator)


def _logistic_regression(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return _scaled(LogisticRegression(max_iter=1000, random_state=seed))


def _linear_regression(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def _ridge(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.linear_model import Ridge

    return _scaled(Ridge(random_state=seed))


def _lasso(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.linear_model import Lasso

    return _scaled(Lasso(random_state=seed))


def _elastic_net(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.linear_model import ElasticNet

    return _scaled(ElasticNet(random_state=seed))


def _decision_tree(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    return (DecisionTreeClassifier if classify else DecisionTreeRegressor)(random_state=seed)


def _random_forest(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestClassifier if classify else RandomForestRegressor
    return kind(random_state=seed, n_jobs=jobs)


def _extra_trees(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    kind = ExtraTreesClassifier if classify else ExtraTreesRegressor
    return kind(random_state=seed, n_jobs=jobs)


def _gradient_boosting(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    return (GradientBoostingClassifier if classify else GradientBoostingRegressor)(
        random_state=seed
    )


def _hist_gradient_boosting(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    return (HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor)(
        random_state=seed
    )


def _adaboost(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.ensemble import AdaBoostClassifier, AdaBoostRegressor

    return (AdaBoostClassifier if classify else AdaBoostRegressor)(random_state=seed)


def _k_nearest_neighbors(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    return _scaled((KNeighborsClassifier if classify else KNeighborsRegressor)(n_jobs=jobs))


def _svm(classify: bool, seed: int, jobs: int) -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC, SVR

    if not classify:
        return _scaled(SVR())
    # Distances to the hyperplane become probabilities by Platt's method (1999).
    return CalibratedClassifierCV(_scaled(SVC(random_state=seed)), cv=3, ensemble=False)


def _lightgbm(classify: bool, seed: int, jobs: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    # Deterministic and row-wise: equal results whatever the number of threads.
    return (LGBMClassifier if classify else LGBMRegressor)(
        random_state=seed, n_jobs=jobs, deterministic=True, force_row_wise=True, verbosity=-1
    )


def _xgboost(classify: bool, seed: int, jobs: int) -> Any:
    from xgboost import XGBClassifier, XGBRegressor

    return (XGBClassifier if classify else XGBRegressor)(random_state=seed, n_jobs=jobs)


def _catboost(classify: bool, seed: int, jobs: int) -> Any:
    from catboost import CatBoostClassifier, CatBoostRegressor

    return (CatBoostClassifier if classify else CatBoostRegressor)(
        random_seed=seed, thread_count=jobs, verbose=False, allow_writing_files=False
    )


_BUILDERS: dict[str, Callable[[bool, int, int], Any]] = {
    "logistic_regression": _logistic_regression,
    "linear_regression": _linear_regression,
    "ridge": _ridge,
    "lasso": _lasso,
    "elastic_net": _elastic_net,
    "decision_tree": _decision_tree,
    "random_forest": _random_forest,
    "extra_trees": _extra_trees,
    "gradient_boosting": _gradient_boosting,
    "hist_gradient_boosting": _hist_gradient_boosting,
    "adaboost": _adaboost,
    "k_nearest_neighbors": _k_nearest_neighbors,
    "svm": _svm,
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "catboost": _catboost,
}
