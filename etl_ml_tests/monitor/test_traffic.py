"""What a service is asked, held against what its model was trained on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from etl_ml.deploy import Package, champion
from etl_ml.monitor.served import Part, Reference
from etl_ml.monitor.traffic import WAITING, LiveTraffic
from etl_ml.monitor.window import Window
from etl_ml.spec import Column
from etl_ml.validate.drift import drift
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.project import Project, attributes, loans

HOUR = 3600.0


@dataclass(frozen=True)
class Rows:
    columns: dict[str, Any]
    count: int
    text: bool = False


@dataclass(frozen=True)
class Answers:
    version: str = "0000000001"
    model: str = "loans"
    values: Any = field(default_factory=lambda: np.array([[0.8, 0.2]]))
    predictions: Any = (0,)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The package of a model of `loans(3000)`."""
    project = Project(tmp_path_factory.mktemp("traffic") / "project")
    project.add(attributes(), loans(3000))
    assert project.materialize().success
    found = champion(project.lake, "loans")
    assert found is not None
    return found


def as_rows(frame: pl.DataFrame, form: str) -> Rows:
    """A frame as a request in some format brings it."""
    frame = frame.drop("defaulted", strict=False)
    if form == "series":
        return Rows({s.name: s for s in frame}, len(frame))
    if form == "text":
        frame = frame.select(pl.all().cast(pl.String).fill_null(""))
        return Rows(frame.to_dict(as_series=False), len(frame), text=True)
    frame = frame.with_columns(pl.col("opened").cast(pl.String))
    return Rows(frame.to_dict(as_series=False), len(frame))


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def traffic(package: Package, registry: CollectorRegistry) -> Iterator[LiveTraffic]:
    made = LiveTraffic(lambda version: package, registry)
    yield made
    made.close()


def seen(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    whose = {} if name.endswith(("uncounted_rows_total", "failures_total")) else None
    if whose is None:
        whose = {"pipeline": "loans", "version": "0000000001"}
    return registry.get_sample_value(f"etl_ml_live_{name}", whose | labels)


@pytest.mark.parametrize("form", ["native", "text", "series"])
@pytest.mark.parametrize("factor", [1.0, 1.15, 3.0])
def test_effects_are_those_of_the_drift_report(package: Package, form: str, factor: float) -> None:
    known = loans(3000).with_row_index("_etl_ml_row").cast({"_etl_ml_row": pl.String})
    new = loans(2000, seed=9).with_columns(
        income=pl.when(pl.int_range(2000) % 10 == 0)
        .then(None)
        .otherwise(pl.col("income") * factor),
        country=pl.when(pl.int_range(2000) % 4 < factor - 1)
        .then(pl.lit("IT"))
        .otherwise("country"),
    )
    fresh = new.with_columns(_etl_ml_row=pl.format("n{}", pl.int_range(2000)))
    report = drift(fresh.lazy(), known.lazy(), make_pipeline(), version="1")["columns"]
    rows = as_rows(new, form)
    reference = Reference.of(package)
    effects = reference.effects(reference.count([Part(rows.columns, rows.count, rows.text)]))
    for name in ("age", "income"):
        true = report[name]["statistic"] if report[name]["test"] == "ks" else None
        if true is not None:
            assert true - 0.01 <= effects[name].values <= true + 1e-9  # type: ignore[operator]
    assert effects["income"].nulls == pytest.approx(report["income"]["nulls"]["effect"], abs=1e-9)
    assert effects["country"].values == pytest.approx(report["country"]["effect"], abs=1e-9)
    assert effects["opened"].values is None


def test_many_small_requests_count_as_one_large_one(package: Package) -> None:
    frame = loans(300, seed=2)
    reference = Reference.of(package)
    whole = as_rows(frame, "native")
    forms = ["native", "text", "series"]
    parts = [as_rows(frame[i], forms[i % 3]) for i in range(len(frame))]
    once = reference.count([Part(whole.columns, whole.count)])
    each = reference.count(Part(r.columns, r.count, r.text) for r in parts)
    assert (each.rows, each.nulls) == (once.rows, once.nulls)
    for name, counts in once.values.items():
        assert each.values[name].tolist() == counts.tolist()
        assert counts.sum() == 300


def test_what_means_null_is_null(package: Package) -> None:
    reference = Reference(
        {"s": Column(type="string"), "b": Column(type="boolean"), "d": Column(type="date")},
        {"columns": {}},
        {"NA"},
    )
    part = Part({"s": [" NA ", "", None, "x"], "b": [1, 0, None, True], "d": [None] * 4}, 4)
    assert reference.count([part]).nulls == {"s": 3, "b": 1, "d": 4}


def test_of_a_sensitive_column_nothing_but_nulls_is_counted() -> None:
    profile = {"columns": {"s": {"nulls": 1, "count": 9, "distribution": {"levels": ["x"]}}}}
    reference = Reference({"s": Column(type="string", sensitive=True)}, profile)
    counts = reference.count([Part({"s": ["x", None]}, 2)])
    assert counts.values == {}
    assert reference.effects(counts)["s"].values is None


def test_a_window_forgets_what_is_older_and_keeps_no_more_than_it_must(package: Package) -> None:
    reference = Reference.of(package)
    window = Window(reference, HOUR)
    row = reference.count([Part(as_rows(loans(1), "native").columns, 1)])
    for minute in range(0, 600):
        window.add(row, 1e9 + 60 * minute)
        assert len(window._slices) <= 7
    assert 50 <= window.counts(1e9 + 60 * 599).rows <= 60
    assert window.counts(1e9 + 60 * 700).rows == 0
    window.add(row, 1e9)  # the clock was set back
    assert window.counts(1e9).rows == 1


def test_drift_shows_after_enough_rows_and_not_before(
    traffic: LiveTraffic, registry: CollectorRegistry
) -> None:
    shifted = loans(400, seed=3).with_columns(income=pl.col("income") * 3)
    traffic.observe(as_rows(shifted[:150], "native"), Answers())
    settled(registry, 150)
    traffic._show()
    assert seen(registry, "drift_effect", column="income") == 0
    traffic.observe(as_rows(shifted[150:], "text"), Answers())
    settled(registry, 400)
    traffic._show()
    assert (seen(registry, "drift_effect", column="income") or 0) > 0.5
    assert (seen(registry, "drift_effect", column="age") or 0) < 0.1
    assert seen(registry, "window_rows") == 400
    assert seen(registry, "drift_effect", column="opened") is None


def test_predictions_are_counted_by_label_and_probability(
    traffic: LiveTraffic, registry: CollectorRegistry
) -> None:
    answers = Answers(values=np.array([[0.8, 0.2], [0.3, 0.7], [0.0, 1.0]]), predictions=[0, 1, 1])
    traffic.observe(as_rows(loans(3), "native"), answers)
    traffic.observe(as_rows(loans(1), "native"), Answers(predictions=["surprise"]))
    settled(registry, 4)
    assert seen(registry, "predictions_total", label="0") == 1
    assert seen(registry, "predictions_total", label="1") == 2
    assert seen(registry, "predictions_total", label="(others)") == 1
    assert seen(registry, "probability_bucket", le="0.2") == 2
    assert seen(registry, "probability_bucket", le="0.7") == 3
    assert seen(registry, "probability_count") == 4


def test_another_version_begins_anew_and_the_gauges_of_the_last_one_end(
    package: Package, registry: CollectorRegistry
) -> None:
    traffic = LiveTraffic(lambda version: package, registry)
    traffic.observe(as_rows(loans(300), "native"), Answers())
    settled(registry, 300)
    traffic._show()
    assert seen(registry, "window_rows") == 300
    traffic.observe(as_rows(loans(10), "native"), Answers(version="0000000002"))
    traffic.close()
    assert seen(registry, "window_rows") is None
    assert seen(registry, "drift_effect", column="age") is None
    assert seen(registry, "window_rows", version="0000000002") == 10
    assert seen(registry, "rows_total") == 300  # a counter never goes back


def test_a_package_that_cannot_be_read_harms_nobody_and_tells_no_cell(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(version: str) -> Package:
        raise ValueError("alice@example.org")

    traffic = LiveTraffic(broken, registry)
    traffic.observe(as_rows(loans(3), "native"), Answers())
    traffic.close()
    assert seen(registry, "failures_total") == 1
    assert "ValueError" in caplog.text
    assert "alice" not in caplog.text


def test_a_flood_is_not_waited_for_and_what_is_not_counted_is_told(
    package: Package, registry: CollectorRegistry
) -> None:
    held = threading.Event()

    def slow(version: str) -> Package:
        held.wait(30)
        return package

    traffic = LiveTraffic(slow, registry)
    many = as_rows(loans(1000), "native")
    begun = time.perf_counter()
    for _ in range(2 * WAITING // 1000):
        traffic.observe(many, Answers())
    assert time.perf_counter() - begun < 5
    held.set()
    traffic.close()
    counted = seen(registry, "rows_total") or 0
    assert counted == WAITING
    assert seen(registry, "uncounted_rows_total") == WAITING


def test_predicted_numbers_are_counted_by_the_targets_ranges(registry: CollectorRegistry) -> None:
    from etl_ml.monitor.live_metrics import Bands

    bands = Bands(limits=(1.0, 2.0))
    assert bands.tally([0.5, 1.0, 1.5, 9.0]) == {"up to 1": 2, "above 1, up to 2": 1, "above 2": 1}
    assert Bands().tally([1.0]) == {"all": 1}


def test_several_processes_tell_one_story(package: Package, tmp_path: Path) -> None:
    root = package.url.partition("/loans/")[0]
    script = textwrap.dedent(
        """
        import sys

        from prometheus_client import CollectorRegistry

        from etl_ml.lake import open_lake
        from etl_ml.deploy import open_package
        from etl_ml.monitor.traffic import LiveTraffic
        from etl_ml_tests.monitor.test_traffic import Answers, as_rows
        from etl_ml_tests.project import loans

        lake = open_lake(sys.argv[1])
        traffic = LiveTraffic(lambda v: open_package(lake, "loans", v), CollectorRegistry())
        rows = loans(300, seed=3)
        if sys.argv[2] == "shifted":
            rows = rows.with_columns(income=rows["income"] * 3)
        traffic.observe(as_rows(rows, "native"), Answers())
        traffic.close()
        """
    )
    for kind in ("shifted", "as it was"):
        subprocess.run(
            [sys.executable, "-c", script, root, kind],
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            check=True,
        )
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
    assert seen(registry, "rows_total") == seen(registry, "window_rows") == 600
    assert (seen(registry, "drift_effect", column="income") or 0) > 0.5
    assert seen(registry, "predictions_total", label="0") == 2


def settled(registry: CollectorRegistry, rows: int) -> None:
    """Wait until so many rows were counted."""
    end = time.monotonic() + 30
    while (seen(registry, "rows_total") or 0) < rows:
        assert time.monotonic() < end
        time.sleep(0.01)
