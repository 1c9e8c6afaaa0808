"""Rules, quarantine, profile and drift."""

from etl_ml.validate.drift import drift
from etl_ml.validate.quarantine import outstanding, quarantines, with_history
from etl_ml.validate.report import report_html
from etl_ml.validate.validate import SchemaMismatch, Validation, validate

__all__ = [
    "SchemaMismatch",
    "Validation",
    "drift",
    "outstanding",
    "quarantines",
    "report_html",
    "validate",
    "with_history",
]
