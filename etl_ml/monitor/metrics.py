"""What a lake says of its pipelines, as Prometheus metrics.

Each is a gauge with a bounded set of labels: pipelines, their columns, assets and metrics, and the
versions of models that are in use now.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from etl_ml.lake import Lake, Log, Version
from etl_ml.lake.ended import read_ended
from etl_ml.monitor.prometheus import needs_prometheus

with needs_prometheus():
    from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger("etl_ml.monitor")

_COLUMNS, _RULES, _VERSIONS = 200, 100, 3
_READERS = 16
_OBJECT_ID = re.compile(r"[0-9a-f]{24}")

PIPELINE = {
    "pipeline_up": ("1 if what the lake holds of the pipeline could be read.", ()),
    "asset_written_timestamp_seconds": ("When the newest version was made.", ("asset",)),
    "asset_rows": ("Rows of the newest version.", ("asset",)),
    "rows": ("Rows of the last validation: read, valid, quarantined, superseded.", ("kind",)),
    "quarantined_share": ("Quarantined rows of those that were read, 0 to 1.", ()),
    "validation_passed": ("1 if the last validation passed.", ()),
    "rule_failed_rows": ("Rows that break a rule of the contract.", ("column", "rule")),
    "drift_detected": ("1 if the last validation found drift.", ()),
    "drift_rows_compared": ("New rows that were compared.", ()),
    "drift_effect": ("How far a column's values have moved, 0 to 1.", ("column",)),
    "drift_nulls_effect": ("How far a column's share of nulls has moved, 0 to 1.", ("column",)),
    "drift_column": ("1 if the column has drifted.", ("column",)),
    "evaluation_metric": (
        "Of the newest model, on its test rows; low and high are a 95 % interval.",
        ("version", "metric", "bound"),
    ),
    "evaluation_gate": ("The limit that a metric must pass.", ("metric",)),
    "evaluation_deployable": ("1 if the newest model may be deployed.", ("version",)),
    "champion_info": ("1 for the model that is deployed.", ("version",)),
    "champion_metric": ("What it was promoted with.", ("version", "metric")),
    "champion_since_timestamp_seconds": ("Since when it is deployed.", ()),
    "champion_trained_timestamp_seconds": ("When it was trained.", ()),
    "performance_metric": (
        "Of predictions whose labels are known, in the newest stretch of time.",
        ("version", "metric", "bound"),
    ),
    "performance_rows": ("Predictions whose labels are known.", ("version",)),
    "performance_worse": (
        "1 if predictions are clearly worse than on the test rows.",
        ("version",),
    ),
    "source_new_rows": ("Rows that the last read of an incremental source found.", ()),
    "source_cursor_timestamp_seconds": (
        "Of the newest row that was read, where the cursor carries time.",
        (),
    ),
    "run_last_success_timestamp_seconds": ("When a run last succeeded.", ()),
    "run_last_failure_timestamp_seconds": ("When a run last failed.", ()),
    "run_failed": ("1 if the last run that came to its end failed.", ()),
    "run_seconds": ("How long the steps of the last run took together.", ()),
    "step_seconds": ("How long an asset took in the last run that made it.", ("asset",)),
}
"""By name, without `etl_ml_`: what it says, and its labels beside `pipeline`."""


@dataclass(frozen=True)
class Sample:
    """A value of one of `PIPELINE`."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


class LakeMetrics:
    """Reads a lake again and again, and of each version no more than once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._reports: dict[tuple[str, str], tuple[str, list[Sample]]] = {}
        self._troubles: dict[str, str] = {}

    def families(self, pipelines: Iterable[str] | None = None) -> list[Metric]:
        """All metrics of some pipelines, by default of all that the lake has.

        Raises
        ------
        EtlMlError
            The lake cannot be read at all. Of a pipeline that cannot be read, `pipeline_up` is 0.
        """
        names = sorted(self._lake.pipelines() if pipelines is None else pipelines)
        with ThreadPoolExecutor(_READERS) as readers:  # they wait for the store
            found = dict(zip(names, readers.map(self._measured, names), strict=True))
        families = {
            name: GaugeMetricFamily(f"etl_ml_{name}", text, labels=["pipeline", *labels])
            for name, (text, labels) in PIPELINE.items()
        }
        for pipeline, samples in found.items():
            for sample in samples:
                families[sample.name].add_metric([pipeline, *sample.labels], sample.value)
        return [family for family in families.values() if family.samples]

    def _measured(self, pipeline: str) -> list[Sample]:
        try:
            found = [*self._of(pipeline), Sample("pipeline_up", 1)]
        except Exception as error:
            # Unreachable, damaged, of another version: one pipeline's trouble is not the others'.
            if self._troubles.get(pipeline) != str(error):  # once, and not each minute
                log.warning("%s cannot be measured: %s", pipeline, error)
                self._troubles[pipeline] = str(error)
            return [Sample("pipeline_up", 0)]
        self._troubles.pop(pipeline, None)
        return found

    def _of(self, pipeline: str) -> Iterator[Sample]:
        for asset in self._lake.backend.folders(f"{pipeline}/files"):
            if (version := self._lake.latest(pipeline, asset)) is None:
                continue
            known = self._reports.get((pipeline, asset))
            if known is None or known[0] != version:
                samples = list(_of_version(self._lake.open(pipeline, asset, version)))
                known = self._reports[pipeline, asset] = version, samples
            yield from known[1]
        yield from _champion(self._lake, pipeline)
        yield from _runs(self._lake, pipeline)


def _of_version(version: Version) -> Iterator[Sample]:
    """All that one version says, which never changes."""
    manifest = version.manifest
    asset = manifest.asset
    yield Sample("asset_written_timestamp_seconds", _seconds(manifest.created_at), (asset,))
    if manifest.table is not None:
        yield Sample("asset_rows", manifest.table.rows, (asset,))
    if asset == "raw_data":
        yield from _source(version)
    elif asset == "quarantined_data":  # which is written whether the validation passes or not
        yield from _validation(version.read("validation_report.json"))
        yield from _drift(version.read("drift_report.json"))
    elif asset == "model_evaluation":
        trained = manifest.upstream.get("trained_model", "")
        yield from _evaluation(version.read("evaluation_report.json"), trained)
    elif asset == "performance":
        yield from _performance(version.read("performance_report.json"))


def _source(version: Version) -> Iterator[Sample]:
    cursor = version.table.cursor
    if cursor is None:
        return
    own = version.table.stamp.get("version") == version.version
    yield Sample("source_new_rows", cursor.get("new_rows", 0) if own else 0)
    moment = _moment(cursor.get("position"))
    if moment is not None:
        yield Sample("source_cursor_timestamp_seconds", moment)


def _validation(report: Mapping[str, Any]) -> Iterator[Sample]:
    kinds = {"read": "rows"} | {k: f"{k}_rows" for k in ("valid", "quarantined", "superseded")}
    for kind, key in kinds.items():
        yield Sample("rows", report[key], (kind,))
    yield Sample("quarantined_share", report["quarantined_rows"] / max(report["rows"], 1))
    yield Sample("validation_passed", report["passed"])
    broken = [check for check in report["checks"] if check["column"] and check["failed_rows"]]
    for check in sorted(broken, key=lambda check: -check["failed_rows"])[:_RULES]:
        yield Sample("rule_failed_rows", check["failed_rows"], (check["column"], check["name"]))


def _drift(report: Mapping[str, Any]) -> Iterator[Sample]:
    yield Sample("drift_detected", report["drifted"])
    yield Sample("drift_rows_compared", report["rows_compared"])
    columns = sorted(report["columns"].items(), key=lambda item: -item[1]["effect"])
    for name, column in columns[:_COLUMNS]:
        yield Sample("drift_effect", column["effect"], (name,))
        yield Sample("drift_nulls_effect", column["nulls"]["effect"], (name,))
        yield Sample("drift_column", column["drifted"], (name,))


def _evaluation(report: Mapping[str, Any], version: str) -> Iterator[Sample]:
    yield from _metrics("evaluation_metric", version, report["metrics"]["test"])
    for metric, gate in report["gates"].items():
        yield Sample("evaluation_gate", gate["limit"], (metric,))
    yield Sample("evaluation_deployable", report["deployable"], (version,))


def _performance(report: Mapping[str, Any]) -> Iterator[Sample]:
    # Of versions that are long gone nobody wants to know each minute.
    versions = list(report["versions"].items())[-_VERSIONS:]
    for version, found in versions:
        yield Sample("performance_rows", found["rows"], (version,))
        if found["worse"] is not None:
            yield Sample("performance_worse", found["worse"], (version,))
        newest = [p for p in report["periods"] if p["version"] == version and p["metrics"]]
        if newest:
            yield from _metrics("performance_metric", version, newest[-1]["metrics"])


def _metrics(name: str, version: str, metrics: Mapping[str, Any]) -> Iterator[Sample]:
    for metric, found in metrics.items():
        for bound, value in found.items():
            if value is not None and math.isfinite(value):
                yield Sample(name, value, (version, metric, bound))


def _champion(lake: Lake, pipeline: str) -> Iterator[Sample]:
    head = Log(lake, pipeline).head()
    if head is None:
        return
    yield Sample("champion_info", 1, (head.version,))
    yield Sample("champion_metric", head.value, (head.version, head.metric))
    yield Sample("champion_since_timestamp_seconds", _seconds(head.at))
    trained = lake.open(pipeline, "trained_model", head.version).manifest.created_at
    yield Sample("champion_trained_timestamp_seconds", _seconds(trained))


def _runs(lake: Lake, pipeline: str) -> Iterator[Sample]:
    succeeded, failed = (read_ended(lake, pipeline, e) for e in ("succeeded", "failed"))
    if succeeded is not None:
        yield Sample("run_last_success_timestamp_seconds", succeeded.at)
    if failed is not None:
        yield Sample("run_last_failure_timestamp_seconds", failed.at)
    ended = sorted(filter(None, (succeeded, failed)), key=lambda run: run.at)
    if ended:
        yield Sample("run_failed", bool(ended[-1].failed))
        yield Sample("run_seconds", sum(ended[-1].seconds.values()))
        seconds = {asset: took for run in ended for asset, took in run.seconds.items()}
        for asset, took in sorted(seconds.items()):
            yield Sample("step_seconds", took, (asset,))


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _moment(position: object) -> float | None:
    """Seconds since 1970 of a cursor that is a moment, or an ObjectId, which begins with one."""
    if not isinstance(position, str):
        return None
    if _OBJECT_ID.fullmatch(position):
        return float(int(position[:8], 16))
    try:
        found = datetime.fromisoformat(position)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
