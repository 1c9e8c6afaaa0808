"""What tells Dagster that an asset would come out differently."""

from __future__ import annotations

import hashlib
from typing import Any

from etl_ml import __version__
from etl_ml.spec.pipeline import Pipeline


def code_version(pipeline: Pipeline, asset: str) -> str:
    """Changes when etl_ml does, or the part of the configuration that the asset depends on."""
    sections: dict[str, list[Any]] = {
        "raw_data": [pipeline.source, pipeline.row_key()],
        "validated_data": [
            pipeline.contract,
            pipeline.target,
            pipeline.validation,
            pipeline.training.folds,
        ],
        "clean_data": [pipeline.cleaning, pipeline.features.outliers],
        "transformed_arrays": [pipeline.split, pipeline.features, pipeline.target],
        "trained_model": [pipeline.training],
        "model_evaluation": [pipeline.evaluation, pipeline.metric, pipeline.training.seed],
        "deployed_model": [pipeline.deployment],
    }
    sections["quarantined_data"] = sections["validated_data"]
    text = repr(sections[asset]).encode()
    return f"{__version__}-{hashlib.blake2b(text, digest_size=4).hexdigest()}"
