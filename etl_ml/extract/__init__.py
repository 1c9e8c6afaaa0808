"""From a source to rows as they were read, one module per source type."""

from etl_ml.extract.days import extract_days
from etl_ml.extract.extract import Extraction, extract
from etl_ml.extract.incremental import extract_new
from etl_ml.extract.pending import Pending, held, pending
from etl_ml.extract.source_error import SourceError, SourceUnavailable

__all__ = [
    "Extraction",
    "Pending",
    "SourceError",
    "SourceUnavailable",
    "extract",
    "extract_days",
    "extract_new",
    "held",
    "pending",
]
