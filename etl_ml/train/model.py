"""The model that is stored, deployed and served: preprocessor, estimator and threshold in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone

from etl_ml.train.metrics import answers_of, decide
from etl_ml.transform.preprocessor import Preprocessor

if TYPE_CHECKING:
    from etl_ml.transform.typed_frame import Frame


class _Tabular(BaseEstimator):  # type: ignore[misc]
    """A preprocessor and an estimator that are fitted one after the other."""

    preprocessor: Preprocessor
    estimator: Any

    def _fit(self, X: Frame, target: np.ndarray[Any, Any]) -> Self:
        self.preprocessor = clone(self.preprocessor)
        features = self.preprocessor.fit_transform(X, target)
        self.estimator = clone(self.estimator).fit(features, target)
        return self


class TabularClassifier(ClassifierMixin, _Tabular):  # type: ignore[misc]
    """A scikit-learn classifier from rows as they are to the original labels.

    Parameters
    ----------
    preprocessor : from a frame to float32 features
    estimator : a classifier of the classes 0..k-1
    classes : the labels in order; of two, the positive one is last
    threshold : of two classes, the positive one is predicted from this probability on

    Attributes
    ----------
    classes_ : array (k,) of the labels
    """

    def __init__(
        self, preprocessor: Preprocessor, estimator: Any, classes: list[Any], threshold: float = 0.5
    ) -> None:
        self.preprocessor = preprocessor
        self.estimator = estimator
        self.classes = classes
        self.threshold = threshold

    @property
    def classes_(self) -> np.ndarray[Any, Any]:
        return np.asarray(self.classes)

    def fit(self, X: Frame, y: Any) -> Self:
        """Fit preprocessor and estimator anew, on a frame of n rows and their n labels."""
        places = {label: place for place, label in enumerate(self.classes)}
        return self._fit(X, np.asarray([places[label] for label in y], dtype=np.int64))

    def predict_proba(self, X: Frame) -> np.ndarray[Any, Any]:
        """Probability of each class: float64 array (n, k), columns as `classes_`.

        Parameters
        ----------
        X : pandas or Polars frame with the feature columns by name, in any order
        """
        return answers_of(self.estimator, self.preprocessor.transform(X))

    def predict(self, X: Frame) -> np.ndarray[Any, Any]:
        """The label of each row: array (n,)."""
        return self.classes_[decide(self.predict_proba(X), self.threshold)]

    def answers(self, X: Frame) -> np.ndarray[Any, Any]:
        """What models are compared by: `predict_proba`."""
        return self.predict_proba(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self.preprocessor, "learned_") and hasattr(self.estimator, "classes_")


class TabularRegressor(RegressorMixin, _Tabular):  # type: ignore[misc]
    """A scikit-learn regressor from rows as they are to a number.

    Parameters
    ----------
    preprocessor : from a frame to float32 features
    estimator : a regressor
    """

    classes: tuple[Any, ...] = ()
    threshold = 0.5

    def __init__(self, preprocessor: Preprocessor, estimator: Any) -> None:
        self.preprocessor = preprocessor
        self.estimator = estimator

    def fit(self, X: Frame, y: Any) -> Self:
        """Fit preprocessor and estimator anew, on a frame of n rows and their n numbers."""
        return self._fit(X, np.asarray(y, dtype=np.float64))

    def predict(self, X: Frame) -> np.ndarray[Any, Any]:
        """The number of each row: float64 array (n,).

        Parameters
        ----------
        X : pandas or Polars frame with the feature columns by name, in any order
        """
        return answers_of(self.estimator, self.preprocessor.transform(X)).ravel()

    def answers(self, X: Frame) -> np.ndarray[Any, Any]:
        """What models are compared by: `predict`."""
        return self.predict(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self.preprocessor, "learned_")


Model = TabularClassifier | TabularRegressor
