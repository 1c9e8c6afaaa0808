"""From a source to rows as they were read, one module per source type."""

from etl_ml.extract.extract import Extraction, extract
from etl_ml.extract.incremental import extract_new
from etl_ml.extract.source_error import SourceError

__all__ = ["Extraction", "SourceError", "extract", "extract_new"]
