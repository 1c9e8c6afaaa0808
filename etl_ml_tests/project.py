"""A Dagster project of its own, outside this repository, that uses etl_ml as a library."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import polars as pl
import yaml

import etl_ml
from etl_ml.deploy import Package
from etl_ml.deploy.verify import largest_difference
from etl_ml.lake import Lake, open_lake

_numbers = count()

ATTRIBUTES: dict[str, Any] = {
    "name": "loans",
    "source": {"type": "file", "path": "loans.csv"},
    "contract": {
        "columns": {
            "age": {"type": "integer", "min": 18, "max": 100},
            "income": {"type": "float", "min": 0},
            "country": {"type": "category", "allowed": ["DE", "FR", "IT"]},
            "opened": {"type": "date"},
            "defaulted": {"type": "integer", "allowed": [0, 1]},
        }
    },
    "target": {"column": "defaulted"},
    "training": {"folds": 3, "candidates": ["decision_tree"]},
}
"""A small pipeline over `loans()`; one quick candidate."""


def attributes(**sections: Any) -> dict[str, Any]:
    """`ATTRIBUTES` with sections replaced, or merged into where both are mappings of one type."""
    merged = copy.deepcopy(ATTRIBUTES)
    for name, section in sections.items():
        there = merged.get(name)
        same = isinstance(there, dict) and isinstance(section, Mapping)
        if same and section.get("type", there.get("type")) == there.get("type"):
            there |= section
        else:
            merged[name] = section
    return merged


def loans(rows: int = 600, seed: int = 0) -> pl.DataFrame:
    """Rows that keep the contract of `ATTRIBUTES`, from which something can be learned."""
    import numpy as np

    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, rows)
    income = rng.lognormal(10, 0.5, rows).round(2)
    country = rng.choice(["DE", "FR", "IT"], rows)
    days = rng.integers(0, 1000, rows)
    risk = 0.1 + 0.6 * (age < 40) - 0.1 * (country == "FR") + 0.1 * (income < 15_000)
    return pl.DataFrame(
        {
            "age": age,
            "income": income,
            "country": country,
            "opened": pl.Series(days).cast(pl.Int32).cast(pl.Date),
            "defaulted": (rng.random(rows) < risk).astype(int),
        }
    )


class Project:
    """One project folder: write pipelines into it, materialize them, read its lake."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.module = f"project_{os.getpid()}_{next(_numbers)}"
        self.package = root / self.module
        self.package.mkdir(parents=True)
        (root / "pyproject.toml").write_text(
            '[tool.dg]\ndirectory_type = "project"\n'
            f'[tool.dg.project]\nroot_module = "{self.module}"\n'
            f'code_location_name = "{self.module}.definitions"\n'
            f'code_location_target_module = "{self.module}.definitions"\n'
        )
        (self.package / "__init__.py").write_text("")
        self.write_definitions(
            """
            from pathlib import Path

            import dagster as dg

            import etl_ml


            @dg.definitions
            def defs() -> dg.Definitions:
                pipelines = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
                return dg.Definitions.merge(pipelines, dg.Definitions(executor=etl_ml.executor()))
            """
        )
        (self.package / "defs").mkdir()

    def write_definitions(self, code: str) -> None:
        (self.package / "definitions.py").write_text(textwrap.dedent(code))

    def add(
        self,
        pipeline: Mapping[str, Any] | None = None,
        data: pl.DataFrame | str | bytes | None = None,
        *,
        folder: str | None = None,
    ) -> Path:
        """Write a pipeline's defs.yaml and its data; returns its folder."""
        pipeline = ATTRIBUTES if pipeline is None else pipeline
        home = self.package / "defs" / (folder or pipeline["name"])
        home.mkdir(exist_ok=True)
        document = {"type": "etl_ml.TabularPipeline", "attributes": dict(pipeline)}
        (home / "defs.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        if pipeline["source"]["type"] != "file" or "://" in pipeline["source"]["path"]:
            return home
        path = home / pipeline["source"]["path"]
        if data is None:
            data = loans()
        if isinstance(data, pl.DataFrame):
            data.write_csv(path)
        else:
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        return home

    @property
    def lake(self) -> Lake:
        return open_lake(self.root / ".etl_ml" / "lake")

    @contextmanager
    def loaded(self) -> Iterator[dg.Definitions]:
        """The project's definitions, loaded as Dagster loads them."""
        sys.path.insert(0, str(self.root))
        try:
            yield dg.load_from_defs_folder(path_within_project=self.package)
        finally:
            sys.path.remove(str(self.root))
            for name in [n for n in sys.modules if n.partition(".")[0] == self.module]:
                del sys.modules[name]

    def materialize(
        self,
        *assets: str,
        pipeline: str = "loans",
        instance: dg.DagsterInstance | None = None,
        fresh: bool = False,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets of a pipeline (all by default) in this process.

        A package that is deployed is asked in this process too, which takes a tenth of the time;
        unless `fresh`, and wherever Dagster's own commands run, in a fresh one.
        """
        with ExitStack() as stack:
            if not fresh:
                stack.enter_context(patch("etl_ml.deploy.push.largest_difference", _difference))
            defs = stack.enter_context(self.loaded())
            job = defs.resolve_implicit_global_asset_job_def()
            selection = [dg.AssetKey([pipeline, asset]) for asset in assets] or [
                key for key in job.asset_layer.executable_asset_keys if key.path[0] == pipeline
            ]
            return job.execute_in_process(
                asset_selection=selection, raise_on_error=False, instance=instance
            )

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a console script of this environment (`dg`, `etl-ml`) in the project."""
        return self.run(self.script(*arguments), **environment)

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run any command in the project."""
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def dagster_materialize(self, selection: str) -> list[str]:
        """`dagster asset materialize` of a selection."""
        location = f"{self.module}.definitions"
        return self.script("dagster", "asset", "materialize", "-m", location, "--select", selection)

    def script(self, name: str, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).parent / name), *arguments]

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("ETL_ML_LAKE", "DAGSTER_HOME")}
        # The etl_ml that is tested, wherever another one is installed.
        path = os.pathsep.join([str(self.root), str(Path(etl_ml.__file__).parents[1])])
        return kept | {"PYTHONPATH": path} | extra


def _difference(package: Package, rows: pl.DataFrame, expected: Any, trusted: Any = ()) -> float:
    """`largest_difference` without the fresh process, which alone knows the user's own classes."""
    if trusted:
        return largest_difference(package, rows, expected, trusted)
    return float(abs(package.model.answers(rows) - expected).max(initial=0.0))


def failure_message(result: dg.ExecuteInProcessResult) -> str:
    """Everything that the run's failed steps told."""
    told = []
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error:
                told.append(error.message)
                error = error.cause
            if data := event.step_failure_data.user_failure_data:
                told.append(data.description or "")
    return "\n".join(told)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The run's check results by name."""
    return {e.check_name: e for e in result.get_asset_check_evaluations()}
