"""Every version of everything: tables (Delta Lake), files, the log of champions."""

from etl_ml.lake.growing import Increment
from etl_ml.lake.lake import Lake, open_lake, version_name
from etl_ml.lake.log import ChampionChanged, Log, Promotion
from etl_ml.lake.run import Inconsistent, Run
from etl_ml.lake.version import MissingVersion, Version
from etl_ml.lake.writer import Contents

__all__ = [
    "ChampionChanged",
    "Contents",
    "Inconsistent",
    "Increment",
    "Lake",
    "Log",
    "MissingVersion",
    "Promotion",
    "Run",
    "Version",
    "open_lake",
    "version_name",
]
