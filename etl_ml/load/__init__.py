"""Taking rows and models to where others use them, one module per destination type."""

from etl_ml.load.load import Loaded, ModelFiles, load, load_model

__all__ = ["Loaded", "ModelFiles", "load", "load_model"]
