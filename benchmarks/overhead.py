"""What Dagster and the component cost: a whole run against the work itself plus an empty graph.

    python benchmarks/overhead.py [--table TABLE.csv --target COLUMN --positive LABEL] [--repeats N]

Without a table, one is made: 11,055 rows of 30 features in {-1, 0, 1}. Every column of a given
table but the target must be an integer. Prints CPU seconds (user and system, children included)
of fresh processes, measured in turn, the median of the repeats, and the ratio.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent

DEFINITIONS = """
from pathlib import Path

import dagster as dg

import etl_ml


@dg.definitions
def defs() -> dg.Definitions:
    pipelines = etl_ml.load_pipelines(Path(__file__).parent)
    return dg.Definitions.merge(pipelines, dg.Definitions(executor=etl_ml.executor()))
"""

EMPTY = """
import dagster as dg

READS = {
    "raw_data": [],
    "validated_data": ["raw_data"],
    "quarantined_data": ["raw_data"],
    "clean_data": ["validated_data"],
    "transformed_arrays": ["clean_data"],
    "trained_model": ["transformed_arrays"],
    "model_evaluation": ["trained_model", "transformed_arrays", "clean_data"],
    "deployed_model": ["model_evaluation", "trained_model", "transformed_arrays", "clean_data"],
}
CHECKS = {
    "validated_data": [
        "schema", "row_count", "quarantined_share", "target", "nulls", "values", "unique", "drift",
    ],
    "transformed_arrays": ["no_leakage", "finite"],
    "model_evaluation": ["gates", "overfit", "champion"],
    "deployed_model": ["answers_as_trained"],
}


def empty(name):
    specs = [dg.AssetCheckSpec(check, asset=name) for check in CHECKS.get(name, [])]

    @dg.asset(name=name, deps=READS[name], group_name="table", check_specs=specs)
    def asset():
        return dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(passed=True, check_name=s.name) for s in specs]
        )

    return asset


defs = dg.Definitions(assets=[empty(name) for name in READS], executor=dg.in_process_executor)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--table", type=Path)
    arguments.add_argument("--target", default="y")
    arguments.add_argument("--positive", type=int, default=1)
    arguments.add_argument("--repeats", type=int, default=3)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = given.table or _make_table(root / "made.csv")
        defs = _make_project(root, table.resolve(), given.target, given.positive)
        dagster = [str(Path(sys.executable).parent / "dagster"), "asset", "materialize"]
        materialize = [*dagster, "--select", "group:table", "-m"]
        script = [sys.executable, str(HERE / "plain_script.py"), str(defs)]
        spent: dict[str, list[float]] = {"run": [], "script": [], "empty graph": []}
        for repeat in range(given.repeats + 1):  # the first one warms the disk
            lake = f"{root}/lake-{repeat}"
            found = {
                "run": _cpu([*materialize, "project.definitions"], root, f"{lake}-run"),
                "script": _cpu([*script, f"{lake}-script"], root, f"{lake}-script"),
                "empty graph": _cpu([*materialize, "empty_graph"], root, f"{lake}-empty"),
            }
            if repeat:
                for name, seconds in found.items():
                    spent[name].append(seconds)
    _print(spent)


def _print(spent: dict[str, list[float]]) -> None:
    median = {name: statistics.median(seconds) for name, seconds in spent.items()}
    ratios = [
        run / (script + empty)
        for run, script, empty in zip(
            spent["run"], spent["script"], spent["empty graph"], strict=True
        )
    ]
    rows = [
        ("dagster asset materialize", median["run"]),
        ("plain script, same stages and bytes", median["script"]),
        ("same graph, empty assets", median["empty graph"]),
    ]
    print(f"{'':38}{'CPU s':>8}")
    for name, seconds in rows:
        print(f"{name:38}{seconds:8.2f}")
    print(f"{'run / (script + empty graph)':38}{statistics.median(ratios):8.2f}   (bar: 1.10)")
    print(f"{'of each repeat':38}{', '.join(f'{ratio:.2f}' for ratio in ratios):>8}")


def _cpu(command: list[str], root: Path, lake: str) -> float:
    """CPU seconds of a command and its children."""
    environment = os.environ | {"ETL_ML_LAKE": lake, "PYTHONPATH": str(root)}
    environment.pop("DAGSTER_HOME", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _make_table(path: Path) -> Path:
    draw = random.Random(7)
    kinds = [[draw.choice((-1, 0, 1)) for _ in range(30)] for _ in range(5_800)]
    lines = [",".join([*(f"x{i}" for i in range(30)), "y"])]
    for _ in range(11_055):
        row = draw.choice(kinds)
        label = int(sum(row[:8]) + draw.gauss(0, 1) > 0)
        lines.append(",".join(map(str, [*row, label])))
    path.write_text("\n".join(lines) + "\n")
    return path


def _make_project(root: Path, table: Path, target: str, positive: int) -> Path:
    package = root / "project"
    home = package / "defs" / "table"
    home.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "definitions.py").write_text(textwrap.dedent(DEFINITIONS))
    (root / "empty_graph.py").write_text(textwrap.dedent(EMPTY))
    (root / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "project"\n'
        'code_location_name = "project.definitions"\n'
        'code_location_target_module = "project.definitions"\n'
    )
    columns = table.open().readline().strip().replace('"', "").split(",")
    attributes = {
        "name": "table",
        "source": {"type": "file", "path": str(table)},
        "contract": {"columns": {name: {"type": "integer"} for name in columns}},
        "target": {"column": target, "positive": positive},
    }
    defs = home / "defs.yaml"
    document = {"type": "etl_ml.TabularPipeline", "attributes": attributes}
    defs.write_text(yaml.safe_dump(document, sort_keys=False))
    return defs


if __name__ == "__main__":
    main()
