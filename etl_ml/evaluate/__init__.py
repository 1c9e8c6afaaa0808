"""Metrics, gates, the comparison with the champion and the model card."""

from etl_ml.evaluate.champion import Incumbent
from etl_ml.evaluate.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "Incumbent", "evaluate"]
