"""A first pipeline from nothing but data: what the columns are, what is predicted, and why."""

from etl_ml.draft.draft import Draft, draft
from etl_ml.draft.sample import Sample, read_sample

__all__ = ["Draft", "Sample", "draft", "read_sample"]
