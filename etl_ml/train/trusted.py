"""The types that a stored model may hold, beyond those that skops knows to be safe.

Named here in the code and nowhere else: a package cannot widen what its reader constructs.
"""

from __future__ import annotations

PREPROCESSOR = frozenset({"etl_ml.transform.preprocessor.Preprocessor"})

_TREE = frozenset({"sklearn.tree._tree.Tree"})

BY_CANDIDATE: dict[str, frozenset[str]] = {
    "logistic_regression": frozenset(),
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
    "svm": frozenset(
        {
            "sklearn.calibration._CalibratedClassifier",
            "sklearn.calibration._SigmoidCalibration",
        }
    ),
    "lightgbm": frozenset(
        {
            "collections.OrderedDict",
            "lightgbm.basic.Booster",
            "lightgbm.sklearn.LGBMClassifier",
        }
    ),
}

MODEL = PREPROCESSOR.union({"etl_ml.train.model.TabularClassifier"}, *BY_CANDIDATE.values())
"""Everything that a model of one of the candidates is made of."""
