"""Candidates, cross-validation and the model."""

from etl_ml.train.train import Training, TrainingError, train

__all__ = ["Training", "TrainingError", "train"]
