"""Rules and dashboards on a real Prometheus, which has scraped a real exporter of real runs."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from etl_ml.deploy import champion
from etl_ml.monitor.labels import add_labels
from etl_ml.monitor.traffic import LiveTraffic
from etl_ml_tests.monitor.test_traffic import Answers, as_rows
from etl_ml_tests.project import Project, attributes, loans
from etl_ml_tests.servers.process import Server, free_ports
from etl_ml_tests.servers.prometheus import Prometheus, PushGateway, read

REPOSITORY = Path(__file__).parents[2]
OPS = REPOSITORY / "ops"
RULES = OPS / "prometheus" / "etl_ml.rules.yaml"
DASHBOARDS = {path.stem: path for path in sorted((OPS / "grafana" / "dashboards").glob("*.json"))}
VARIABLES = {"pipeline": ".*", "metric": "f1", "__rate_interval": "15s"}


@dataclass(frozen=True)
class Observed:
    """A Prometheus that has seen everything that there is to see."""

    prometheus: Prometheus
    project: Project


class MetricsCommand(Server):
    """`etl-ml metrics` over a project's lake."""

    name = "etl-ml metrics"
    program = "etl-ml"

    def __init__(self, project: Project, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder)
        self._lake = project.root / ".etl_ml" / "lake"

    def command(self) -> list[str]:
        return ["metrics", "--port", str(self.port)]

    def surroundings(self) -> dict[str, str]:
        lake = {"ETL_ML_LAKE": str(self._lake), "PYTHONPATH": str(REPOSITORY)}
        return super().surroundings() | lake

    def ask(self) -> None:
        read(f"http://127.0.0.1:{self.port}/metrics")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, push_gateway: PushGateway) -> Project:
    """A project whose runs have deployed, drifted and failed, and pushed all of that."""
    project = Project(tmp_path_factory.mktemp("ops") / "project")
    columns = {"id": {"type": "integer"}, **attributes()["contract"]["columns"]}
    pipeline = attributes(
        contract={"columns": columns, "primary_key": ["id"]},
        evaluation={"gates": {"f1": 0.1}},
        predictions={"input": {"type": "file", "path": "new.csv"}},
    )
    home = project.add(pipeline, _with_some_too_young(loans(900)))
    new = loans(300, seed=9).with_row_index("id", offset=10_000)
    new.drop("defaulted").write_csv(home / "new.csv")
    gateway = {"ETL_ML_PUSHGATEWAY": f"http://{push_gateway.address}"}

    def run(selection: str, code: int = 0) -> None:
        done = project.run(project.dagster_materialize(selection), **gateway)
        assert done.returncode == code, done.stderr

    run("group:loans")
    add_labels(project.lake, "loans", new.select("id", "defaulted"))
    later = _with_some_too_young(loans(900, seed=1), first=5000)
    project.add(pipeline, later.with_columns(income=pl.col("income") * 3))
    run('key:"loans/raw_data" or key:"loans/validated_data" or key:"loans/quarantined_data"')
    _orders(project)
    run('key:"orders/raw_data"')
    (home / "loans.csv").unlink()
    run('key:"loans/raw_data"', code=1)
    return project


def _with_some_too_young(rows: pl.DataFrame, first: int = 0) -> pl.DataFrame:
    young = pl.when(pl.int_range(len(rows)) < 9).then(7).otherwise("age")
    return rows.with_row_index("id", offset=first).with_columns(age=young)


def _orders(project: Project) -> None:
    """A pipeline over a table that grows, whose cursor carries time."""
    with sqlite3.connect(project.root / "orders.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, at TEXT, paid INTEGER)")
        rows = [(i, f"2026-01-01 00:00:{i % 60:02d}", i % 2) for i in range(200)]
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    database.close()
    columns = {
        "id": {"type": "integer"},
        "at": {"type": "datetime"},
        "paid": {"type": "integer", "allowed": [0, 1]},
        "amount": {"type": "float"},
    }
    project.add(
        {
            "name": "orders",
            "source": {
                "type": "sql",
                "url": f"sqlite:///{project.root / 'orders.db'}",
                "query": "SELECT id, at, paid, 1.5 * id AS amount FROM orders",
                "incremental": {"cursor": "at"},
            },
            "contract": {"primary_key": ["id"], "columns": columns},
            "target": {"column": "paid"},
        }
    )


@pytest.fixture(scope="module")
def observed(
    history: Project, prometheus: Prometheus, push_gateway: PushGateway, tmp_path_factory: Any
) -> Iterator[Observed]:
    exporter = MetricsCommand(history, tmp_path_factory.mktemp("exporter") / "run")
    exporter.start()
    package = champion(history.lake, "loans")
    assert package is not None
    registry = CollectorRegistry()
    traffic = LiveTraffic(lambda version: package, registry)
    (port,) = free_ports(1)
    server, _ = start_http_server(port, "127.0.0.1", registry)
    over = threading.Event()
    sender = threading.Thread(target=_send, args=(traffic, over), daemon=True)
    sender.start()
    prometheus.configure(
        _configuration(
            {
                "metrics:9464": f"127.0.0.1:{exporter.port}",
                "pushgateway:9091": push_gateway.address,
                "serve:8080": f"127.0.0.1:{port}",
            },
            prometheus.folder,
        )
    )
    try:
        yield Observed(prometheus, history)
    finally:
        over.set()
        sender.join()
        traffic.close()
        server.shutdown()
        server.server_close()
        exporter.stop()


def _send(traffic: LiveTraffic, over: threading.Event) -> None:
    """A service's life: many rows at once, and then some every now and then."""
    seed = 0
    while not over.wait(0.5):
        rows = loans(400 if seed == 0 else 20, seed=seed).with_columns(income=pl.lit(1e6))
        rows = rows.with_row_index("id").with_columns(age=pl.lit(None, pl.Int64))
        share = np.linspace(0, 1, len(rows))
        values = np.stack([1 - share, share], axis=1)
        predictions = (share >= 0.5).astype(int).tolist()
        traffic.observe(as_rows(rows, "native"), Answers(values=values, predictions=predictions))
        seed += 1


def _configuration(places: dict[str, str], folder: Path) -> str:
    """The shipped configuration, quicker and with the test's addresses."""
    shutil.copy(RULES, folder)
    (folder / "token").write_text("none")
    text = (OPS / "prometheus" / "prometheus.yaml").read_text()
    for place, address in places.items():
        assert place in text
        text = text.replace(place, address)
    text = text.replace("/run/secrets/serve_token", str(folder / "token"))
    text = re.sub(r"scrape_timeout: .*", "scrape_timeout: 2s", text)
    return re.sub(r"(scrape_interval|evaluation_interval): .*", r"\1: 2s", text)


def panels(name: str) -> list[dict[str, Any]]:
    found = json.loads(DASHBOARDS[name].read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def expressions() -> list[Any]:
    return [
        pytest.param(target["expr"], id=f"{name}: {panel['title']} {target['refId']}")
        for name in DASHBOARDS
        for panel in panels(name)
        for target in panel["targets"]
    ]


@pytest.mark.parametrize("expression", expressions())
def test_every_panel_shows_something(observed: Observed, expression: str) -> None:
    for name, value in VARIABLES.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression
    # A share of what did not come is no number: on a slow machine that takes a moment.
    observed.prometheus.wait_for(f"(({expression}) >= 0) < Inf")


def test_every_variable_of_a_dashboard_has_values(observed: Observed) -> None:
    for path in DASHBOARDS.values():
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] != "query":
                continue
            metric, label = re.fullmatch(  # type: ignore[union-attr]
                r"label_values\((\w+), (\w+)\)", variable["query"]["query"]
            ).groups()
            found = observed.prometheus.wait_for(f"count by ({label}) ({metric})")
            assert "loans" in [series["metric"][label] for series in found] or label == "metric"


def test_scraped_and_pushed_say_the_same(observed: Observed) -> None:
    for metric in ("etl_ml_run_failed", "etl_ml_drift_detected", "etl_ml_champion_info"):
        of_loans = f'{metric}{{pipeline="loans"}}'
        observed.prometheus.wait_for(f"count({of_loans}) == 2")
        found = observed.prometheus.query(of_loans)
        assert {series["value"][1] for series in found} == {"1"}


def test_what_happened_raises_its_alert_and_nothing_else_does(observed: Observed) -> None:
    observed.prometheus.wait_for('ALERTS{alertname="EtlMlRunFailed", alertstate="firing"}')
    observed.prometheus.wait_for('ALERTS{alertname="EtlMlDrift", alertstate="firing"}')
    firing = observed.prometheus.query('count by (alertname) (ALERTS{alertstate="firing"})')
    assert {series["metric"]["alertname"] for series in firing} == {"EtlMlRunFailed", "EtlMlDrift"}
    pending = observed.prometheus.wait_for('ALERTS{alertname="EtlMlLiveDrift"}')
    assert {series["metric"]["column"] for series in pending} == {"income"}
    nulls = observed.prometheus.wait_for('ALERTS{alertname="EtlMlLiveNullsDrift"}')
    assert {series["metric"]["column"] for series in nulls} == {"age"}


def test_every_rule_is_sound_and_its_unit_tests_pass(observed: Observed) -> None:
    answer = read(f"{observed.prometheus.url}/api/v1/rules")
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule.get("lastError")] == []
    assert len(rules) == len(_rules())
    done = subprocess.run(
        ["promtool", "test", "rules", "etl_ml.rules.test.yaml"],
        cwd=OPS / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_unit_test_fails_where_a_rule_is_wrong(tmp_path: Path, prometheus: Prometheus) -> None:
    """Of each rule: without it, a test misses it."""
    shutil.copy(OPS / "prometheus" / "etl_ml.rules.test.yaml", tmp_path)
    text = RULES.read_text()
    for name in _rules():
        (tmp_path / RULES.name).write_text(text.replace(f"alert: {name}\n", "alert: Another\n"))
        done = subprocess.run(
            ["promtool", "test", "rules", "etl_ml.rules.test.yaml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0, name
        assert name in done.stdout + done.stderr


def _rules() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"]]


def test_the_shipped_configuration_is_sound(prometheus: Prometheus) -> None:
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", OPS / "prometheus" / "prometheus.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_are_what_grafana_expects(tmp_path: Path) -> None:
    documents = {name: json.loads(path.read_text()) for name, path in DASHBOARDS.items()}
    assert _compiled(tmp_path, documents) == ""
    broken = json.loads(DASHBOARDS["pipelines"].read_text())
    broken["panels"][1]["options"]["colorMode"] = "loud"
    assert "loud" in _compiled(tmp_path, {"broken": broken})


def _compiled(folder: Path, documents: dict[str, Any]) -> str:
    """What TypeScript has against dashboards, their panels' options and their fields' styles."""
    compiler = REPOSITORY / "node_modules" / ".bin" / "tsc"
    if not compiler.exists() or not (REPOSITORY / "node_modules" / "@grafana" / "schema").exists():
        pytest.skip("@grafana/schema and typescript are not installed: .ci/servers installs them")
    kinds = {"bargauge": "BarGauge", "stat": "Stat", "timeseries": "TimeSeries"}
    raw = "@grafana/schema/dist/esm/raw/composable"
    lines = ['import type { Dashboard } from "@grafana/schema";']
    lines += [
        f'import type * as {kind} from "{raw}/{kind}/panelcfg/x/{name}PanelCfg_types.gen";'
        for kind, name in kinds.items()
    ]
    # In a file an enum's value is its text.
    lines.append(
        "type Json<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined "
        "? T : T extends Array<infer U> ? Array<Json<U>> "
        ": T extends object ? { [K in keyof T]: Json<T[K]> } : T;"
    )
    for name, document in documents.items():
        lines.append(f"export const {name}: Json<Dashboard> = {json.dumps(document)};")
        for panel in document["panels"]:
            if panel["type"] == "row":
                continue
            place, options = f"{name}_{panel['id']}", json.dumps(panel["options"])
            lines.append(f"export const {place}: Json<{panel['type']}.Options> = {options};")
            if style := panel["fieldConfig"]["defaults"].get("custom"):
                kind = f"Json<{panel['type']}.FieldConfig>"
                lines.append(f"export const {place}_style: {kind} = {json.dumps(style)};")
    (folder / "node_modules").unlink(missing_ok=True)
    (folder / "node_modules").symlink_to(REPOSITORY / "node_modules")
    (folder / "dashboards.ts").write_text("\n".join(lines))
    options = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler"]
    done = subprocess.run(
        [compiler, *options, "--module", "esnext", "--target", "es2022", "dashboards.ts"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    for name, path in DASHBOARDS.items():
        found = json.loads(path.read_text())["panels"]
        ids = [panel["id"] for panel in found]
        assert len(ids) == len(set(ids)), name
        taken: set[tuple[int, int]] = set()
        for panel in found:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, (name, panel["title"])
            assert place["x"] + place["w"] <= 24
            taken |= cells
