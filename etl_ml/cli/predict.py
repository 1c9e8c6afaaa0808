"""`etl-ml predict`: a file in, a file with the champion's answers out."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from etl_ml.cli.terminal import progress
from etl_ml.deploy import champion, open_package
from etl_ml.deploy.registry import NoChampion
from etl_ml.lake import open_lake, version_name
from etl_ml.lake.progress import Progress
from etl_ml.serve.batch import BatchScorer, score_file
from etl_ml.spec.destination import FileDestination
from etl_ml.spec.error import EtlMlError, bounded
from etl_ml.spec.source import FileSource


def predict_file(pipeline: str, given: str, output: str, version: str | None) -> None:
    """Score a file, or several by a glob, and say how many rows got an answer.

    Raises
    ------
    EtlMlError
        Nothing was written.
    """
    try:
        source = FileSource(type="file", path=given)
        destination = FileDestination(type="file", path=output)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise EtlMlError(
            f"{bounded(given)} or {bounded(output)}: {problem}.", fix="correct the name"
        ) from None
    if "." not in output.rpartition("/")[2]:
        raise EtlMlError(
            f"{bounded(output)} does not say its format.",
            fix="end its name with .parquet, .csv or .jsonl, also .csv.gz",
        )
    lake = open_lake()
    package = open_package(lake, pipeline, version_name(version)) if version else None
    package = package or champion(lake, pipeline)
    if package is None:
        raise NoChampion(
            f"{pipeline}: no model has been deployed yet.",
            where=lake.url,
            fix=f"materialize group:{pipeline}, or name a --version",
        )
    with progress() as told:
        counted = Progress("Scored", None, told, every=0.5)
        counts = score_file(
            BatchScorer(package), source, destination, base=Path.cwd(), progress=counted
        )
    refused = (
        f"; {counts.refused:,} of them break the contract and have `reasons` instead of an answer"
        if counts.refused
        else ""
    )
    print(f"{output}: {counts.rows:,} rows scored by {pipeline} {package.version}{refused}.")
