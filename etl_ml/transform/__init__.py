"""Cleaning, the split, the preprocessor and the arrays."""

from etl_ml.transform.clean import Cleaning, clean
from etl_ml.transform.split import SplitError
from etl_ml.transform.transform import Arrays, rows_of, transform

__all__ = ["Arrays", "Cleaning", "SplitError", "clean", "rows_of", "transform"]
