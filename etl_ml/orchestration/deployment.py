"""`deployed_model`: the champion, in the registry and at every target."""

import getpass
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from etl_ml.lake import Contents, Version
from etl_ml.orchestration.checks import Checks
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.orchestration.stores import resource_keys, settings_of
from etl_ml.spec.deployment import target_names
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline

CONFIG = {
    "promote": dg.Field(
        str,
        default_value="",
        description="Make this version of trained_model champion: one that waits for approval, "
        "or an earlier one. Empty: the newest, if its evaluation allows it.",
    ),
    "reason": dg.Field(str, default_value="", description="Why, for the log of champions."),
    "by": dg.Field(str, default_value="", description="Who asks for it, for the log."),
}


def required_resources(pipeline: Pipeline) -> set[str]:
    """The resources whose credentials the targets use."""
    return {key for target in pipeline.deployment.targets for key in resource_keys(target)}


def target_assets(pipeline: Pipeline) -> list[dg.AssetSpec]:
    """One external asset a target."""
    targets = pipeline.deployment.targets
    return [
        dg.AssetSpec(
            key=dg.AssetKey([pipeline.name, "target", name]),
            deps=[dg.AssetKey([pipeline.name, "deployed_model"])],
            description=f"The champion at {target.display}.",
            group_name=pipeline.name,
            kinds={_kind(target.type)},
        )
        for name, target in zip(target_names(targets), targets, strict=True)
    ]


def _kind(type: str) -> str:
    """The icon that Dagster has for a type of target."""
    return {"azure_blob": "azure", "azure_ml": "azureml", "gcs": "gcs"}.get(
        type, "python" if ":" in type else type
    )


def deploy_steps(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    home: Path,
    lake_io: PipelineIOManager,
    versions: dict[str, Version],
    forget: Callable[[], None],
) -> Iterator[Any]:
    """What the asset yields: its check, and a version where something was deployed."""
    from etl_ml.deploy import Deployment, deploy, open_target, promote
    from etl_ml.lake import Run, version_name
    from etl_ml.report import store

    lake, config = lake_io.lake(), context.op_execution_context.op_config
    who: dict[str, str] = {"run_id": context.run.run_id, "by": config["by"]}
    asked, made_from = config["promote"], None
    try:
        targets = [
            open_target(
                section,
                pipeline.name,
                base=home,
                settings=settings_of(section, context.resources),
            )
            for section in pipeline.deployment.targets
        ]
        if asked:
            version = version_name(asked)
            who |= {"by": config["by"] or getpass.getuser(), "reason": config["reason"]}
            result = promote(lake, pipeline, version, targets=targets, **who)
            above = Run(lake, pipeline.name, "").closure("trained_model", version)
            made_from = {**above, "trained_model": version}
        else:
            result = deploy(
                lake,
                pipeline,
                versions["trained_model"],
                versions["model_evaluation"],
                versions["transformed_arrays"],
                versions["clean_data"],
                targets=targets,
                **who,
            )
    except EtlMlError as error:
        result = Deployment(problem=f"{error}\nThe champion stays.", answered=False)
    checks = Checks(pipeline, "deployed_model", context.selected_asset_check_keys)
    page: dict[str, Any] = {}
    try:
        told_at = store(lake, pipeline.name, context.run.run_id, result.report)
        page["report"] = dg.MetadataValue.path(told_at)
    except EtlMlError as error:  # the model is what it is, with a page or without
        context.log.warning(f"There is no report of this run: {error}")
    skipped = dict(page)
    if result.skipped:
        skipped |= {"skipped": True, "reasons": list(result.skipped)}
    told = result.problem or "; ".join(result.skipped)
    yield from checks.result("answers_as_trained", result.answered, told, metadata=skipped)
    if result.problem:
        raise dg.Failure(result.problem, allow_retries=False)
    if result.report is None:
        context.log.info(f"Nothing is deployed: {told}")
        forget()
        return
    files = {"deployment_report.json": result.report}
    metadata = _metadata(result.report) | page
    yield dg.Output(Contents(files=files, made_from=made_from), metadata=metadata)
    forget()


def _metadata(report: dict[str, Any]) -> dict[str, Any]:
    columns = ("type", "url", "verified", "max_abs_difference")
    records = [dg.TableRecord({c: target[c] for c in columns}) for target in report["targets"]]
    name = "champion" if report["champion"] else "waits_for_approval"
    return {
        name: report["version"],
        "package": dg.MetadataValue.path(report["targets"][-1]["url"]),
        "max_abs_difference": max(t["max_abs_difference"] for t in report["targets"]),
        "targets": dg.MetadataValue.table(records),
        "reason": "; ".join(report["reasons"]),
    }
