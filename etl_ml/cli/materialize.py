"""Materializing one asset by Dagster's own command, as a run that Dagster knows of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl_ml.lake import Lake, open_lake
from etl_ml.lake.lake import default_url
from etl_ml.spec.error import EtlMlError


@dataclass(frozen=True)
class DagsterProject:
    """A Dagster project: its folder, and the module with its definitions."""

    root: Path
    module: str

    def defs(self) -> Path:
        """The folder of the pipelines.

        Raises
        ------
        EtlMlError
            The root module is where nothing can be found.
        """
        package = self.module.partition(".")[0]
        for root in (self.root, self.root / "src"):
            if (root / package).is_dir():
                return root / package / "defs"
        raise EtlMlError(
            f"the project's module {package!r} is neither here nor under src/.",
            where=str(self.root / "pyproject.toml"),
            fix="correct root_module under [tool.dg.project]",
        )

    def lake(self) -> Lake:
        return open_lake(default_url(self.root))

    def materialize(self, pipeline: str, asset: str, config: dict[str, Any], failed: str) -> None:
        """Run one asset with the config of its op.

        Raises
        ------
        EtlMlError
            The run failed, which is told with `failed`.
        """
        ops = {"ops": {f"{pipeline}__{asset}": {"config": config}}}
        command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", self.module]
        command += ["--select", f'key:"{pipeline}/{asset}"', "--config-json", json.dumps(ops)]
        quiet = "ignore:Function `asset_materialize_command` is superseded"
        warnings = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), quiet]))
        run = subprocess.run(
            command, cwd=self.root, env=os.environ | {"PYTHONWARNINGS": warnings}, check=False
        )
        if run.returncode:
            raise EtlMlError(
                f"{pipeline}: {failed}", where=self.module, fix="see the run's messages above"
            )

    def next_step(self, pipeline: str) -> str:
        return f"Next: dagster asset materialize -m {self.module} --select 'group:{pipeline}'"


def find_project(start: Path | None = None) -> DagsterProject:
    """The Dagster project at or above a folder, by default the working directory.

    Raises
    ------
    EtlMlError
        There is none.
    """
    here = start or Path.cwd()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        settings = tomllib.loads(file.read_text()).get("tool", {}).get("dg", {}).get("project", {})
        if root := settings.get("root_module"):
            module = settings.get("code_location_target_module", f"{root}.definitions")
            return DagsterProject(folder, module)
    raise EtlMlError(
        "this folder is in no Dagster project.",
        where=str(here),
        fix="change to the folder with the project's pyproject.toml, or below it",
    )
