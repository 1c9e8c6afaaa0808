"""The types that a stored model may hold, beyond those that skops knows to be safe.

Named here in the code, in the reader's environment (`ETL_ML_TRUSTED_TYPES`) and by the pipeline
that the reader runs, and nowhere else: a package cannot widen what its reader constructs.
"""

from __future__ import annotations

import os
from contextlib import suppress

from etl_ml.lake.estimator import UnreadableModel, UntrustedModel, load_estimator
from etl_ml.spec.pipeline import Pipeline
from etl_ml.train.candidates import UnknownEstimator, find_class
from etl_ml.train.model import Model
from etl_ml.transform.learned import FORMAT
from etl_ml.transform.preprocessor import Preprocessor

VARIABLE = "ETL_ML_TRUSTED_TYPES"

PREPROCESSOR = frozenset({"etl_ml.transform.preprocessor.Preprocessor"})

_TREE = frozenset({"sklearn.tree._tree.Tree"})
_CALIBRATED = frozenset(
    {
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
    }
)

BY_CANDIDATE: dict[str, frozenset[str]] = {
    "logistic_regression": frozenset(),
    "linear_regression": frozenset(),
    "ridge": frozenset(),
    "lasso": frozenset(),
    "elastic_net": frozenset(),
    "decision_tree": _TREE,
    "random_forest": _TREE,
    "extra_trees": _TREE,
    "gradient_boosting": _TREE,
    "hist_gradient_boosting": frozenset(
        {"sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"}
    ),
    "adaboost": _TREE,
    "k_nearest_neighbors": frozenset(
        {
            "sklearn.metrics._dist_metrics.ChebyshevDistance64",
            "sklearn.metrics._dist_metrics.EuclideanDistance64",
            "sklearn.metrics._dist_metrics.ManhattanDistance64",
            "sklearn.metrics._dist_metrics.MinkowskiDistance64",
            "sklearn.neighbors._ball_tree.BallTree",
            "sklearn.neighbors._kd_tree.KDTree",
        }
    ),
    "svm": _CALIBRATED,
    "lightgbm": frozenset(
        {
            "collections.OrderedDict",
            "lightgbm.basic.Booster",
            "lightgbm.sklearn.LGBMClassifier",
            "lightgbm.sklearn.LGBMRegressor",
        }
    ),
    "xgboost": frozenset(
        {
            "xgboost.core.Booster",
            "xgboost.sklearn.XGBClassifier",
            "xgboost.sklearn.XGBRegressor",
        }
    ),
    "catboost": frozenset(
        {
            "catboost.core.CatBoostClassifier",
            "catboost.core.CatBoostRegressor",
        }
    ),
}

MODEL = PREPROCESSOR.union(
    {"etl_ml.train.model.TabularClassifier", "etl_ml.train.model.TabularRegressor"},
    _CALIBRATED,
    *BY_CANDIDATE.values(),
)
"""Everything that a model of one of the named candidates is made of."""


def trusted_types(pipeline: Pipeline | None = None) -> frozenset[str]:
    """What a model may hold here: etl_ml's own types, the environment's and the pipeline's."""
    named = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")}
    return MODEL.union(name.replace(":", ".") for name in named | own_types(pipeline) if name)


def own_types(pipeline: Pipeline | None) -> set[str]:
    """The classes, and the function, that the pipeline names itself."""
    if pipeline is None:
        return set()
    named = {pipeline.features.function} if pipeline.features.function else set()
    for candidate in pipeline.candidates:
        if candidate.is_class:
            with suppress(UnknownEstimator):  # training says so; here it is trusted by no name
                kind = find_class(candidate.name)
                named.add(f"{kind.__module__}.{kind.__qualname__}")
    return named


def read_model(
    data: bytes, pipeline: Pipeline | None = None, *, name: str = "model.skops"
) -> Model:
    """A stored model.

    Parameters
    ----------
    pipeline : the one that is run, whose classes and function are trusted

    Raises
    ------
    UntrustedModel
        It holds a type, or asks a function, that this reader was not told to trust, or was
        fitted by a version of etl_ml whose preprocessor this one cannot run.
    """
    trusted = trusted_types(pipeline)
    model: Model = load_estimator(data, trusted=trusted, name=name)
    _check(model.preprocessor, trusted, name)
    return model


def read_preprocessor(data: bytes, pipeline: Pipeline | None = None) -> Preprocessor:
    """A stored preprocessor, under the same rules."""
    name, trusted = "preprocessor.skops", trusted_types(pipeline)
    found: Preprocessor = load_estimator(data, trusted=trusted, name=name)
    _check(found, trusted, name)
    return found


def _check(preprocessor: Preprocessor, trusted: frozenset[str], name: str) -> None:
    found = vars(preprocessor).get("format_")
    if found != FORMAT:
        raise UnreadableModel(
            f"{name} was fitted by another version of etl_ml: its preprocessor is of format "
            f"{found}, and this version runs format {FORMAT}.",
            fix="train and deploy the model again",
        )
    function = preprocessor.function
    if function is not None and function.replace(":", ".") not in trusted:
        raise UntrustedModel(
            f"{name} calls the function {function!r}, which is not trusted.",
            fix=f"if it is yours, set {VARIABLE}={function}",
        )
