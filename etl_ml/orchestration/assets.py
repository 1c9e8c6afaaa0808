"""The pipeline as assets: each is a few lines over the front door of its stage.

    source → raw_data → validated_data → clean_data → transformed_arrays → trained_model
                      ↘ quarantined_data                → model_evaluation → deployed_model

The stages are imported where they run: loading the definitions needs neither pandas nor
scikit-learn.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from etl_ml.lake import Contents, Increment, Lake, Run, Version
from etl_ml.lake.backend import TableHandle
from etl_ml.lake.growing import SOURCE
from etl_ml.orchestration.checks import (
    Checks,
    check_specs,
    drift_result,
    evaluation_results,
    validation_results,
)
from etl_ml.orchestration.code_version import code_version
from etl_ml.orchestration.deployment import CONFIG, deploy_steps, required_resources
from etl_ml.orchestration.drifts import note_training
from etl_ml.orchestration.forgetting import forget
from etl_ml.orchestration.io_manager import PipelineIOManager, describe
from etl_ml.orchestration.metadata import (
    column_lineage,
    column_schema,
    evaluation_metadata,
    leaderboard_metadata,
    validation_metadata,
)
from etl_ml.orchestration.partitions import backfill, days_of, partitions_def
from etl_ml.orchestration.policies import policies
from etl_ml.orchestration.pools import deploy_pool, source_pool
from etl_ml.orchestration.retries import heals
from etl_ml.orchestration.runs_at_work import GOAL_TAG
from etl_ml.orchestration.state import StateReader
from etl_ml.orchestration.step_tags import step_tags
from etl_ml.orchestration.stores import resource_keys, settings_of
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.resources import Step
from etl_ml.spec.source import FileSource, SqlSource

_DESCRIPTIONS = {
    "raw_data": "Rows as they were read from the source.",
    "validated_data": "Rows that keep the data contract, in their types, with profile and drift.",
    "quarantined_data": "Rows that break the data contract, as they were read, with the reasons.",
    "clean_data": "Valid rows without duplicates and columns that are not wanted.",
    "transformed_arrays": "Training and test features, split before anything was fitted.",
    "trained_model": "The best candidate by cross-validation on the training rows.",
    "model_evaluation": "Test metrics with intervals, gates, and the comparison with the champion.",
    "deployed_model": "The champion: loaded in a fresh process, and found to answer as trained.",
}
_REFRESH = "Read an incremental source again from the start, in place of what was read."
_REPLAY = "Validate the rows that earlier runs rejected, too."
_KINDS = {
    "raw_data": {"deltalake"},
    "validated_data": {"polars", "deltalake"},
    "quarantined_data": {"polars", "deltalake"},
    "clean_data": {"polars", "deltalake"},
    "transformed_arrays": {"polars", "numpy"},
    "trained_model": {"scikitlearn"},
    "model_evaluation": {"scikitlearn"},
    "deployed_model": {"scikitlearn"},
}


def build_assets(
    pipeline: Pipeline, home: Path, lake_io: PipelineIOManager
) -> list[dg.AssetsDefinition]:
    """All assets of a pipeline.

    Parameters
    ----------
    home : the folder of its defs.yaml, from which relative paths start
    """
    lake_key = f"{pipeline.name}__lake"
    io_manager = lake_io.definition

    def facts(asset: str) -> dict[str, Any]:
        kinds = _KINDS[asset] | ({_format(pipeline)} if asset == "raw_data" else set())
        schema = {"dagster/column_schema": column_schema(pipeline)}
        return {
            "key": dg.AssetKey([pipeline.name, asset]),
            "description": _DESCRIPTIONS[asset],
            "kinds": kinds,
            "owners": list(pipeline.owners),
            "group_name": pipeline.name,
            "code_version": code_version(pipeline, asset),
            "io_manager_key": lake_key,
            **policies(pipeline, asset),
            "metadata": schema if asset in ("validated_data", "clean_data") else {},
        }

    def asset(
        name: Step, *reads: str, **more: Any
    ) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
        declared: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
            **facts(name),
            ins={read: dg.AssetIn(key=dg.AssetKey([pipeline.name, read])) for read in reads},
            check_specs=check_specs(pipeline, name) or None,
            op_tags=step_tags(pipeline, name),
            resource_defs={lake_key: io_manager},
            **backfill(pipeline),
            **more,
        )
        return lambda compute: declared(heals(compute))

    @asset(
        "raw_data",
        config_schema={"refresh": dg.Field(bool, default_value=False, description=_REFRESH)},
        required_resource_keys=resource_keys(pipeline.source),
        output_required=False,
        pool=source_pool(pipeline),
        partitions_def=partitions_def(pipeline),
    )
    def raw_data(context: dg.AssetExecutionContext) -> Iterator[dg.Output[Any]]:
        read = _read(context)
        goal = context.run.tags.get(GOAL_TAG)
        if goal is None or context.run.parent_run_id is not None:
            yield read
            return
        # A sensor asked for what the lake may have by now: another run may have been first.
        key = context.asset_key
        step = context.op_execution_context.get_step_execution_context()
        version = lake_io.store(step, key, read.value)
        if not StateReader(lake_io.lake(), pipeline).read().is_done(train=goal == "train"):
            yield dg.Output(version, metadata=dict(read.metadata))
            return
        context.log.info("Nothing is new, and everything was made from it: the run ends here.")
        context.log_event(dg.AssetMaterialization(key, metadata=describe(version)))

    def _read(context: dg.AssetExecutionContext) -> dg.Output[Contents]:
        from etl_ml.extract import extract, extract_new, held

        _names_are_there(context, pipeline)
        lake_io.checked_lake()
        source, told = pipeline.source, context.log.info
        settings = settings_of(source, context.resources)
        told(f"Reading {source.address}")
        if pipeline.partitions is not None:
            return days_of(context, pipeline, home)
        if source.incremental is not None:
            refresh = context.op_execution_context.op_config["refresh"]

            def grow(head: TableHandle | None) -> Increment | None:
                return extract_new(
                    pipeline, head, base=home, settings=settings, refresh=refresh, log=told
                )

            return dg.Output(Contents(grow=grow))
        key, contract = pipeline.row_key(), pipeline.contract
        files = {}
        if pipeline.automation.new_data is not None:
            files[SOURCE] = held(pipeline, base=home, settings=settings)
        read = extract(
            source, base=home, primary_key=key, contract=contract, settings=settings, log=told
        )
        columns = [dg.TableColumn(field.name, str(field.type)) for field in read.rows.schema]
        schema = dg.TableSchema(columns=columns)
        return dg.Output(Contents(read.rows, files), metadata={"dagster/column_schema": schema})

    @dg.multi_asset(
        name=f"{pipeline.name}__validated_data",
        outs={
            name: dg.AssetOut(**facts(name), is_required=False)
            for name in ("validated_data", "quarantined_data")
        },
        ins={"raw_data": dg.AssetIn(key=dg.AssetKey([pipeline.name, "raw_data"]))},
        check_specs=check_specs(pipeline, "validated_data"),
        op_tags=step_tags(pipeline, "validated_data"),
        resource_defs={lake_key: io_manager},
        **backfill(pipeline),
        can_subset=True,
        config_schema={"replay": dg.Field(bool, default_value=False, description=_REPLAY)},
    )
    @heals
    def validated_data(context: dg.AssetExecutionContext, raw_data: Version) -> Iterator[Any]:
        with tempfile.TemporaryDirectory(prefix="etl_ml_") as folder:
            yield from _validated(context, raw_data, Path(folder))

    def _validated(
        context: dg.AssetExecutionContext, raw_data: Version, folder: Path
    ) -> Iterator[Any]:
        from etl_ml.report import store as report_page
        from etl_ml.validate import (
            SchemaMismatch,
            drift,
            quarantines,
            report_html,
            validate,
            with_history,
        )

        rows = raw_data.table.scan()
        if context.op_execution_context.op_config["replay"]:
            history = quarantines(lake_io.lake(), pipeline.name)
            rows = with_history(rows, [version.table.scan() for version in history])
        checks = Checks(pipeline, "validated_data", context.selected_asset_check_keys)
        try:
            result = validate(rows, pipeline, folder=folder)
        except SchemaMismatch as mismatch:
            yield from checks.result("schema", False, str(mismatch))
            raise
        reference = drift_reference(lake_io.lake(), pipeline)
        drifts = drift(
            result.valid,
            reference.table.scan() if reference else None,
            pipeline,
            version=reference.version if reference else None,
            sample=result.sample,
        )
        stopped = dict(result.problems)
        if drifts["drifted"] and pipeline.validation.drift.on_drift == "fail":
            stopped["drift"] = drifts["verdict"]
        yield from validation_results(checks, result.report, result.problems)
        yield from drift_result(checks, drifts, pipeline)
        reports: dict[str, Any] = {
            "validation_report.json": result.report,
            "drift_report.json": drifts,
            "profile.json": result.profile,
        }
        page = report_html(pipeline, result.report, drifts, result.profile)
        reports |= {"validation_report.html": page}
        outputs: dict[str, Any] = {"quarantined_data": result.quarantined}
        if not stopped:
            outputs["validated_data"] = result.valid_file
        told = validation_metadata(result.report, drifts)
        told["dagster/column_lineage"] = column_lineage(pipeline, "raw_data")
        for name, table in outputs.items():
            contents = Contents(table, reports)
            key = dg.AssetKey([pipeline.name, name])
            if key in context.selected_asset_keys:
                yield dg.Output(contents, output_name=name, metadata=told)
            else:  # the two are one truth: the one that was not asked for is written too
                step = context.op_execution_context.get_step_execution_context()
                version = lake_io.store(step, key, contents)
                context.log_event(dg.AssetMaterialization(key, metadata=told | describe(version)))
        if stopped:
            report_page(lake_io.lake(), pipeline.name, context.run.run_id)
            raise dg.Failure("\n".join(stopped.values()), allow_retries=False)

    @asset("clean_data", "validated_data")
    def clean_data(
        context: dg.AssetExecutionContext, validated_data: Version
    ) -> dg.Output[Contents]:
        from etl_ml.transform import clean

        result = clean(
            validated_data.table.scan(),
            pipeline.cleaning,
            outliers=pipeline.features.outliers,
            features=pipeline.features_of(),
        )
        files = {"clean.jsonl.gz": result.write_json, "cleaning_report.json": result.report}
        metadata = {
            "duplicates": result.report["duplicates"]["found"],
            "outliers": sum(found["values"] for found in result.report["outliers"].values()),
            "dagster/column_lineage": column_lineage(pipeline, "validated_data"),
        }
        return dg.Output(Contents(result.rows, files), metadata=metadata)

    @asset("transformed_arrays", "clean_data", output_required=False)
    def transformed_arrays(context: dg.AssetExecutionContext, clean_data: Version) -> Iterator[Any]:
        from etl_ml.transform import transform

        last = _latest(lake_io.lake(), pipeline, "transformed_arrays")
        previous = last.read("split.json") if last else None
        arrays = transform(clean_data.table.scan(), pipeline, previous)
        checks = Checks(pipeline, "transformed_arrays", context.selected_asset_check_keys)
        yield from checks.of_problems(("no_leakage", "finite"), arrays.problems, arrays.warnings)
        if arrays.problems:
            raise dg.Failure("\n".join(arrays.problems.values()), allow_retries=False)
        sides = {side: arrays.split[side]["rows"] for side in ("train", "test")}
        metadata: dict[str, Any] = {f"{side}_rows": rows for side, rows in sides.items()}
        noted = {n: found["notes"] for n, found in arrays.notes.items() if found["notes"]}
        if noted:
            told = "\n".join(f"- `{name}`: {'; '.join(notes)}" for name, notes in noted.items())
            metadata["notes"] = dg.MetadataValue.md(told)
        metadata["features"] = arrays.train_features.shape[1]
        yield dg.Output(Contents(files=arrays.files()), metadata=metadata)

    @asset("trained_model", "transformed_arrays")
    def trained_model(
        context: dg.AssetExecutionContext, transformed_arrays: Version
    ) -> dg.Output[Contents]:
        from etl_ml.train import train

        result = train(transformed_arrays, pipeline, progress=context.log.info)
        metadata = leaderboard_metadata(result.leaderboard) | {
            "onnx": result.onnx.report["reason"] or "converted"
        }
        return dg.Output(Contents(files=result.files()), metadata=metadata)

    @asset("model_evaluation", "trained_model", "transformed_arrays", "clean_data")
    def model_evaluation(
        context: dg.AssetExecutionContext,
        trained_model: Version,
        transformed_arrays: Version,
        clean_data: Version,
    ) -> Iterator[Any]:
        from etl_ml.deploy import incumbent
        from etl_ml.evaluate import evaluate

        champion = incumbent(lake_io.lake(), pipeline)
        result = evaluate(trained_model, transformed_arrays, clean_data, pipeline, champion)
        checks = Checks(pipeline, "model_evaluation", context.selected_asset_check_keys)
        yield from evaluation_results(checks, result.report)
        metadata = evaluation_metadata(result.report, result.card, result.pictures)
        yield dg.Output(Contents(files=result.files()), metadata=metadata)
        above = Run(lake_io.lake(), pipeline.name, "").closure("clean_data", clean_data.version)
        validated = lake_io.lake().open(pipeline.name, "validated_data", above["validated_data"])
        note_training(lake_io.lake(), pipeline.name, validated, trained_model.version)

    @asset(
        "deployed_model",
        "model_evaluation",
        "trained_model",
        "transformed_arrays",
        "clean_data",
        output_required=False,
        config_schema=CONFIG,
        required_resource_keys=required_resources(pipeline),
        pool=deploy_pool(pipeline),
    )
    def deployed_model(
        context: dg.AssetExecutionContext,
        model_evaluation: Version,
        trained_model: Version,
        transformed_arrays: Version,
        clean_data: Version,
    ) -> Iterator[Any]:
        versions = {
            "model_evaluation": model_evaluation,
            "trained_model": trained_model,
            "transformed_arrays": transformed_arrays,
            "clean_data": clean_data,
        }

        def done() -> None:
            forget(context, lake_io.lake(), pipeline)

        yield from deploy_steps(context, pipeline, home, lake_io, versions, done)

    return [
        raw_data,
        validated_data,
        clean_data,
        transformed_arrays,
        trained_model,
        model_evaluation,
        deployed_model,
    ]


def _names_are_there(context: dg.AssetExecutionContext, pipeline: Pipeline) -> None:
    """A misspelt parameter is told before the source is read, by a run that will train."""
    trained = dg.AssetKey([pipeline.name, "trained_model"])
    if pipeline.names_code and trained in context.job_def.asset_layer.selected_asset_keys:
        from etl_ml.train import check_names

        check_names(pipeline)


def drift_reference(lake: Lake, pipeline: Pipeline) -> Version | None:
    """The `validated_data` version that new rows are compared with, if there is one."""
    from etl_ml.deploy import champion_lineage

    asked = pipeline.validation.drift.reference
    if asked == "none":
        return None
    if asked == "previous":
        return _latest(lake, pipeline, "validated_data")
    lineage = champion_lineage(lake, pipeline.name)
    if lineage is None:
        return None
    return lake.open(pipeline.name, "validated_data", lineage["validated_data"])


def _latest(lake: Lake, pipeline: Pipeline, asset: str) -> Version | None:
    version = lake.latest(pipeline.name, asset)
    return lake.open(pipeline.name, asset, version) if version else None


def _format(pipeline: Pipeline) -> str:
    """The source as a kind, for its icon."""
    source = pipeline.source
    if isinstance(source, SqlSource):
        return source.address.partition("://")[0].partition("+")[0]
    if not isinstance(source, FileSource):
        return source.type
    name = source.path.removesuffix(".gz").removesuffix(".zst")
    return source.format or name.rpartition(".")[2].lower() or "file"
