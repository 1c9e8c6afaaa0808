"""`etl-ml refresh`: an incremental source from the start, by Dagster's own command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from etl_ml.lake import open_lake
from etl_ml.lake.lake import default_url
from etl_ml.spec.error import EtlMlError


def refresh_pipeline(pipeline: str) -> None:
    """Materialize raw_data with `refresh`, as a run that Dagster knows of.

    Raises
    ------
    EtlMlError
        The working directory is in no project, or the run failed.
    """
    root, module = _project(Path.cwd())
    config = {"ops": {f"{pipeline}__raw_data": {"config": {"refresh": True}}}}
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", module]
    command += ["--select", f'key:"{pipeline}/raw_data"', "--config-json", json.dumps(config)]
    quiet = "ignore:Function `asset_materialize_command` is superseded"
    warnings = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), quiet]))
    run = subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHONWARNINGS": warnings}, check=False
    )
    if run.returncode:
        raise EtlMlError(
            f"{pipeline}: the source was not read again; raw_data is as it was.",
            where=module,
            fix="see the run's messages above",
        )
    version = open_lake(default_url(root)).open(pipeline, "raw_data")
    print(
        f"\n{pipeline}/raw_data {version.version}: {version.table.rows:,} rows, from the start."
        f"\nNext: dagster asset materialize -m {module} --select 'group:{pipeline}'"
    )


def _project(start: Path) -> tuple[Path, str]:
    """The root of the Dagster project at or above a folder, and its definitions module."""
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        settings = tomllib.loads(file.read_text()).get("tool", {}).get("dg", {}).get("project", {})
        if root := settings.get("root_module"):
            return folder, settings.get("code_location_target_module", f"{root}.definitions")
    raise EtlMlError(
        "this folder is in no Dagster project.",
        where=str(start),
        fix="change to the folder with the project's pyproject.toml, or below it",
    )
