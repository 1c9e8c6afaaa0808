"""One page a run: the verdict, then what it rests on."""

from etl_ml.report.collect import RunFacts, collect
from etl_ml.report.page import page, store

__all__ = ["RunFacts", "collect", "page", "store"]
