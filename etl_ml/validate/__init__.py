"""Rules, quarantine, profile and drift."""

from etl_ml.validate.drift import drift
from etl_ml.validate.validate import SchemaMismatch, Validation, validate

__all__ = ["SchemaMismatch", "Validation", "drift", "validate"]
