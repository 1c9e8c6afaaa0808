"""Candidates, cross-validation and the model."""

from etl_ml.train.folds import TrainingError
from etl_ml.train.train import Training, check_names, load_model, train

__all__ = ["Training", "TrainingError", "check_names", "load_model", "train"]
