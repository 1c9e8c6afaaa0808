"""`loaded_data`: clean rows, or the deployed model, taken to every destination."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from etl_ml import __version__
from etl_ml.lake import Contents, Lake, Version
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.orchestration.partitions import backfill
from etl_ml.orchestration.policies import policies
from etl_ml.orchestration.pools import load_pool
from etl_ml.orchestration.retries import again, heals, step_of
from etl_ml.orchestration.step_tags import step_tags
from etl_ml.orchestration.stores import resource_keys, settings_of
from etl_ml.spec.destination import Destination, names_of
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline


def build_loads(
    pipeline: Pipeline,
    destinations: tuple[Destination, ...],
    home: Path,
    lake_io: PipelineIOManager,
    primary_key: tuple[str, ...] = (),
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """`loaded_data` and one external asset a destination; nothing where there are none.

    Parameters
    ----------
    home : the folder of the pipeline's defs.yaml, from which relative paths start
    primary_key : what upsert's key defaults to
    """
    if not destinations:
        return []
    name = pipeline.name
    lake_key = f"{name}__lake"
    names = names_of(destinations)
    models = any(destination.what == "model" for destination in destinations)
    facts: dict[str, Any] = {
        "key": dg.AssetKey([name, "loaded_data"]),
        "description": "Clean rows, or the deployed model, at every destination.",
        "kinds": {destination.type for destination in destinations},
        "owners": list(pipeline.owners),
        "group_name": name,
        "code_version": _code_version(destinations),
        "resource_defs": {lake_key: lake_io.definition},
    }
    facts |= policies(pipeline, "loaded_data")
    days = backfill(pipeline)
    pool = load_pool(pipeline)
    resources = {key for destination in destinations for key in resource_keys(destination)}
    tags = step_tags(pipeline, "loaded_data")
    reads = {"clean_data": dg.AssetIn(key=dg.AssetKey([name, "clean_data"]))}

    @heals
    def loaded_data(context: dg.AssetExecutionContext, clean_data: Version) -> dg.Output[Contents]:
        from etl_ml.load import load, load_model

        report: list[dict[str, Any]] = []
        behind: dict[str, str] = {}
        heal = False
        before = _models_before(lake_io.lake(), name)
        metadata: dict[str, Any] = {}
        for place, destination in zip(names, destinations, strict=True):
            shared: dict[str, Any] = {"base": home, "progress": context.log.info}
            try:
                shared["settings"] = settings_of(destination, context.resources)
                if destination.what == "model":
                    model = _champion(lake_io.lake(), name)
                    if model is None:
                        metadata[f"{place}/model"] = "none is deployed yet"
                        context.log.warning(f"{destination.display}: no model is deployed yet.")
                        continue
                    known = model.version == before.get(place)
                    metadata[f"{place}/model"] = f"{model.version}{', as before' * known}"
                    if known:
                        context.log.info(
                            f"{destination.display}: no new model; {model.version} stays."
                        )
                    done = load_model(model, destination, **shared)  # type: ignore[arg-type]
                else:
                    done = load(
                        clean_data,
                        destination,
                        contract=pipeline.contract,
                        primary_key=primary_key,
                        **shared,
                    )
            except EtlMlError as error:
                context.log.error(f"{destination.display}: {error}")
                behind[destination.display] = str(error)
                heal = heal or error.heals
                continue
            report.append({"name": place, **vars(done)})
            metadata[f"{place}/rows"] = done.rows
            metadata[f"{place}/seconds"] = round(done.seconds, 3)
            metadata[f"{place}/rows_per_second"] = round(done.rows / max(done.seconds, 1e-9), 1)
        if behind:
            told = "\n".join(f"{place}: {reason}" for place, reason in behind.items())
            failure = dg.Failure(
                f"{len(behind)} of {len(destinations)} destinations are behind.\n{told}",
                metadata=metadata,
            )
            if heal:
                raise again(step_of(context)) from failure
            raise failure
        files = {"load_report.json": {"destinations": report}}
        return dg.Output(Contents(files=files), metadata=metadata)

    asset: dg.AssetsDefinition
    if models:
        asset = after_deployment(
            name, "load", loaded_data, lake_key, resources, reads, facts | days, tags, pool
        )
    else:
        asset = dg.asset(
            name=None,
            ins=reads,
            io_manager_key=lake_key,
            required_resource_keys=resources,
            op_tags=tags,
            pool=pool,
            **days,
            **facts,
        )(loaded_data)
    external = [
        dg.AssetSpec(
            key=dg.AssetKey([name, "destination", place]),
            deps=[dg.AssetKey([name, "loaded_data"])],
            description=destination.display,
            group_name=name,
            kinds={destination.type},
        )
        for place, destination in zip(names, destinations, strict=True)
    ]
    return [asset, *external]


def after_deployment(
    name: str,
    verb: str,
    compute: Callable[..., Any],
    lake_key: str,
    resources: set[str],
    reads: dict[str, dg.AssetIn],
    facts: dict[str, Any],
    tags: dict[str, Any],
    pool: str | None = None,
) -> dg.AssetsDefinition:
    """The asset as a step that comes after `deployed_model` also where that yields nothing.

    Dagster skips what is downstream of an output that is not yielded, unless it has another one
    to wait for: here that of `begin`.
    """
    nothing = dg.In(dg.Nothing)

    @dg.op(name=f"{name}__begin_{verb}", out=dg.Out(dg.Nothing))
    def begin() -> None:
        pass

    # A step of its own: an output with a blocking check is two to wait for already.
    @dg.op(name=f"{name}__deployed_{verb}", ins={"after": nothing}, out=dg.Out(dg.Nothing))
    def deployed() -> None:
        pass

    take = dg.op(
        name=f"{name}__{verb}",
        ins={"after": nothing, "clean_data": dg.In()},
        out=dg.Out(io_manager_key=lake_key),
        required_resource_keys=resources,
        tags=tags,
        pool=pool,
    )(compute)
    model = dg.AssetIn(key=dg.AssetKey([name, "deployed_model"]), dagster_type=dg.Nothing)

    @dg.graph_asset(ins={**reads, "deployed_model": model}, **facts)
    def asset(clean_data: Any, deployed_model: Any) -> Any:
        return take(clean_data=clean_data, after=[begin(), deployed(deployed_model)])

    return asset


def _champion(lake: Lake, pipeline: str) -> Any:
    """The deployed package's files, or None."""
    from etl_ml.deploy.registry import champion
    from etl_ml.load import ModelFiles

    package = champion(lake, pipeline)
    if package is None:
        return None
    return ModelFiles(pipeline, package.version, dict(package.contents()))


def _models_before(lake: Lake, pipeline: str) -> dict[str, str]:
    """By destination, what the last load took there."""
    version = lake.latest(pipeline, "loaded_data")
    if version is None:
        return {}
    report = lake.open(pipeline, "loaded_data", version).read("load_report.json")
    return {entry["name"]: entry["version"] for entry in report["destinations"]}


def _code_version(destinations: tuple[Destination, ...]) -> str:
    # Secrets show as stars: another password is no other code.
    digest = hashlib.blake2b(repr(destinations).encode(), digest_size=4).hexdigest()
    return f"{__version__}-{digest}"
