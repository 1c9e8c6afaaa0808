"""`loaded_data`: clean rows, or the deployed model, taken to every destination."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from etl_ml import __version__
from etl_ml.lake import Contents, Version
from etl_ml.orchestration.io_manager import LakeIOManager
from etl_ml.spec.destination import Destination, names_of
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline


def build_loads(
    pipeline: Pipeline,
    destinations: tuple[Destination, ...],
    home: Path,
    lake_io: LakeIOManager,
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
    reads = ["clean_data", *(["deployed_model"] if models else [])]
    resources = {r for d in destinations if (r := getattr(d, "resource", None))}

    @dg.asset(
        key=dg.AssetKey([name, "loaded_data"]),
        description="Clean rows, or the deployed model, at every destination.",
        kinds={destination.type for destination in destinations},
        owners=list(pipeline.owners),
        group_name=name,
        code_version=_code_version(destinations),
        io_manager_key=lake_key,
        resource_defs={lake_key: lake_io.definition},
        required_resource_keys=resources,
        ins={read: dg.AssetIn(key=dg.AssetKey([name, read])) for read in reads},
    )
    def loaded_data(context: dg.AssetExecutionContext, **inputs: Version) -> dg.Output[Contents]:
        from etl_ml.load import load, load_model

        report: list[dict[str, Any]] = []
        behind: dict[str, str] = {}
        metadata: dict[str, Any] = {}
        for place, destination in zip(names, destinations, strict=True):
            shared: Mapping[str, Any] = {"base": home, "progress": context.log.info}
            try:
                if resource := getattr(destination, "resource", None):
                    given = _credentials(getattr(context.resources, resource), resource)
                    shared = {**shared, "credentials": given}
                if destination.what == "model":
                    model = _model(inputs["deployed_model"], lake_io, name)
                    done = load_model(model, destination, **shared)  # type: ignore[arg-type]
                else:
                    done = load(
                        inputs["clean_data"],
                        destination,
                        contract=pipeline.contract,
                        primary_key=primary_key,
                        **shared,
                    )
            except EtlMlError as error:
                context.log.error(f"{destination.display}: {error}")
                behind[destination.display] = str(error)
                continue
            report.append({"name": place, **vars(done)})
            metadata[f"{place}/rows"] = done.rows
            metadata[f"{place}/seconds"] = round(done.seconds, 3)
            metadata[f"{place}/rows_per_second"] = round(done.rows / max(done.seconds, 1e-9), 1)
        if behind:
            told = "\n".join(f"{place}: {reason}" for place, reason in behind.items())
            raise dg.Failure(
                f"{len(behind)} of {len(destinations)} destinations are behind.\n{told}",
                metadata=metadata,
            )
        files = {"load_report.json": {"destinations": report}}
        return dg.Output(Contents(files=files), metadata=metadata)

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
    return [loaded_data, *external]


def _model(deployed: Version, lake_io: LakeIOManager, pipeline: str) -> Any:
    from etl_ml.deploy.package import open_package
    from etl_ml.load import ModelFiles

    version = deployed.read("deployment_report.json")["version"]
    package = open_package(lake_io.lake(), pipeline, version)
    names = [entry["path"] for entry in package.manifest["files"]]
    return ModelFiles(pipeline, version, {name: package.read(name) for name in names})


def _credentials(resource: Any, name: str) -> dict[str, str]:
    """Plain settings out of dagster-aws' S3Resource or dagster-azure's AzureBlobStorageResource."""
    found: dict[str, Any]
    if hasattr(resource, "account_url"):
        credential = resource.credential
        account = resource.account_url.partition("://")[2].partition(".")[0]
        found = {"key": account, "secret": getattr(credential, "key", None)}
        found["token"] = getattr(credential, "token", None)
    elif hasattr(resource, "aws_access_key_id"):
        found = {
            "key": resource.aws_access_key_id,
            "secret": resource.aws_secret_access_key,
            "token": resource.aws_session_token,
            "profile": resource.profile_name,
            "region": resource.region_name,
            "endpoint": resource.endpoint_url,
        }
    else:
        raise EtlMlError(
            f"the resource {name!r} is neither an S3Resource nor an AzureBlobStorageResource.",
            fix="bind one of them to this key",
        )
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _code_version(destinations: tuple[Destination, ...]) -> str:
    # Secrets show as stars: another password is no other code.
    digest = hashlib.blake2b(repr(destinations).encode(), digest_size=4).hexdigest()
    return f"{__version__}-{digest}"
