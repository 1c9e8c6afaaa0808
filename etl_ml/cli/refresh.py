"""`etl-ml refresh`: an incremental source from the start."""

from __future__ import annotations

from etl_ml.cli.materialize import find_project


def refresh_pipeline(pipeline: str) -> None:
    """Materialize raw_data with `refresh`.

    Raises
    ------
    EtlMlError
        The working directory is in no project, or the run failed.
    """
    project = find_project()
    failed = "the source was not read again; raw_data is as it was."
    project.materialize(pipeline, "raw_data", {"refresh": True}, failed)
    version = project.lake().open(pipeline, "raw_data")
    print(
        f"\n{pipeline}/raw_data {version.version}: {version.table.rows:,} rows, from the start."
        f"\n{project.next_step(pipeline)}"
    )
