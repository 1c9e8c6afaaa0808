"""`predictions`: rows scored by the champion, with its version and the rows' identities."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from etl_ml import __version__
from etl_ml.lake import Contents, Version
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.orchestration.loads import after_deployment
from etl_ml.orchestration.partitions import backfill
from etl_ml.orchestration.policies import policies
from etl_ml.orchestration.retries import heals
from etl_ml.orchestration.step_tags import step_tags
from etl_ml.orchestration.stores import resource_keys, settings_of
from etl_ml.spec.pipeline import Pipeline


def build_predictions(
    pipeline: Pipeline, home: Path, lake_io: PipelineIOManager
) -> list[dg.AssetsDefinition]:
    """The asset, where the pipeline asks for it.

    It comes after `deployed_model` and does not read it: a run that deploys nothing is scored by
    the champion that stays.
    """
    asked = pipeline.predictions
    if asked is None:
        return []
    name = pipeline.name
    lake_key = f"{name}__lake"

    @heals
    def predictions(context: dg.OpExecutionContext, clean_data: Version) -> Iterator[Any]:
        with tempfile.TemporaryDirectory(prefix="etl_ml_") as folder:
            yield _scored(context, clean_data, Path(folder, "predictions.parquet"))

    def _scored(
        context: dg.OpExecutionContext, clean_data: Version, file: Path
    ) -> dg.Output[Contents]:
        from etl_ml.deploy import champion
        from etl_ml.deploy.registry import NoChampion
        from etl_ml.serve.batch import BatchScorer, score_source, score_version

        lake, told = lake_io.lake(), context.log.info
        package = champion(lake, name)
        if package is None:
            raise NoChampion(
                f"{name}: there is no model to score with.",
                where=lake.url,
                fix=f"materialize {name}/deployed_model; its reasons tell why nothing is deployed",
            )
        scorer = BatchScorer(package, pipeline)
        if asked.input is None:
            scored, counts = score_version(scorer, clean_data, file, told)
        else:
            scored, counts = score_source(
                scorer,
                asked.input,
                pipeline.contract,
                file,
                base=home,
                settings=settings_of(asked.input, context.resources),
                log=told,
            )
        metadata: dict[str, Any] = {
            "champion": package.version,
            "rows_refused": counts.refused,
            "share_refused": counts.refused / max(counts.rows, 1),
        }
        made_from = {"trained_model": package.version}
        if asked.input is None:
            made_from["clean_data"] = clean_data.version
        return dg.Output(Contents(scored, made_from=made_from), metadata=metadata)

    source = asked.input.address if asked.input else "clean_data"
    facts: dict[str, Any] = {
        "key": dg.AssetKey([name, "predictions"]),
        "description": f"The champion's answers for {source}, with version and row identity.",
        "kinds": {"deltalake", "scikitlearn"},
        "owners": list(pipeline.owners),
        "group_name": name,
        "code_version": f"{__version__}-{_digest(asked)}",
        "resource_defs": {lake_key: lake_io.definition},
        **policies(pipeline, "predictions"),
        **backfill(pipeline),
    }
    reads = {"clean_data": dg.AssetIn(key=dg.AssetKey([name, "clean_data"]))}
    needed = resource_keys(asked.input) if asked.input else set()
    tags = step_tags(pipeline, "predictions")
    return [after_deployment(name, "predict", predictions, lake_key, needed, reads, facts, tags)]


def _digest(section: object) -> str:
    return hashlib.blake2b(repr(section).encode(), digest_size=4).hexdigest()
