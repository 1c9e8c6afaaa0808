"""`etl-ml init`: a file or a table becomes a pipeline that runs."""

from __future__ import annotations

import os
from pathlib import Path

from etl_ml.cli.materialize import DagsterProject, find_project
from etl_ml.cli.schema import SCHEMA_FILE, write_schema
from etl_ml.cli.terminal import progress
from etl_ml.draft import Draft, draft, read_sample
from etl_ml.draft.document import document
from etl_ml.spec.error import EtlMlError, bounded
from etl_ml.spec.source import public


def init_pipeline(data: str, target: str, name: str | None, table: str | None) -> None:
    """Write a defs.yaml into the project, and say what to run.

    Raises
    ------
    EtlMlError
        Nothing was written.
    """
    project = find_project()
    defs = project.defs()
    with progress() as told:
        told(f"Reading {public(data)}")
        # Which folder it will be in depends on the data's name, and paths on the folder.
        sample = read_sample(data, table, beside=defs / (name or "pipeline"))
        told(f"Looking at {len(sample.rows):,} rows")
        drafted = draft(sample, target, name=name)
    home = defs / drafted.attributes["name"]
    file = home / "defs.yaml"
    if home.exists():
        raise EtlMlError(
            f"there is a pipeline {bounded(home.name)} already.",
            where=str(home),
            fix="give this one another --name, or remove that folder",
        )
    schema = os.path.relpath(project.root / SCHEMA_FILE, home)
    text = document(drafted, schema=schema)
    write_schema(project.root / SCHEMA_FILE)
    home.mkdir(parents=True)
    file.write_text(text)
    _say(drafted, project, file, sample.asks_for)


def _say(drafted: Draft, project: DagsterProject, file: Path, asks_for: tuple[str, ...]) -> None:
    pipeline, target = drafted.attributes["name"], drafted.attributes["target"]
    features = len(drafted.pipeline.features_of())
    task = "a number" if drafted.target.task == "regression" else "classes"
    print(
        f"{_shown(file)}: {len(drafted.columns)} columns, {features} of them features; "
        f"predicts {target['column']}, {task}."
    )
    for note in drafted.notes:
        print(f"  {note}")
    if drafted.problems:
        for problem in drafted.problems:
            print(f"One edit is needed before it can run: {problem}.")
        return
    for variable in asks_for:
        print(f"It reads the address from the environment: set {variable} to it.")
    print(
        f"Next: dg check defs && dg launch --assets 'group:{pipeline}'\n"
        f"  or: dagster asset materialize -m {project.module} --select 'group:{pipeline}'\n"
        f"then: etl-ml show {pipeline}"
    )


def _shown(file: Path) -> str:
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
