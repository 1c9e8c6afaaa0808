"""A thin Dagster face on the lake: outputs become versions, inputs are read run-consistently."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import dagster as dg

from etl_ml.lake import Contents, Lake, Run, Version, open_lake
from etl_ml.lake.growing import cursor_text
from etl_ml.lake.heartbeat import beating
from etl_ml.lake.lake import default_url
from etl_ml.orchestration.pandas_type import dataframe_type
from etl_ml.orchestration.retries import healing
from etl_ml.spec.contract import Contract

_REPORT = "validation_report.html"
# Their bytes tell how long something took, not what came out.
_TIMED = ("leaderboard.json", "training_log.jsonl")

_OF: WeakKeyDictionary[object, PipelineIOManager] = WeakKeyDictionary()


class PipelineIOManager(dg.IOManager):
    """Keeps assets in the lake. The asset key is `[pipeline, asset]`.

    An input arrives as a `Version`; as a Polars or pandas frame of its table where the asset's
    parameter is annotated so.

    Parameters
    ----------
    project : the folder whose `.etl_ml/lake` is the lake where `ETL_ML_LAKE` is not set
    pipeline : the one whose runs give a sign of life while it is in use
    contracts : by asset, the contract that a pandas frame of it must keep
    """

    def __init__(
        self, project: Path, pipeline: str, contracts: Mapping[str, Contract] | None = None
    ) -> None:
        self._project, self._pipeline = project, pipeline
        self._contracts = dict(contracts or {})
        self._opened: tuple[str, Lake] | None = None
        self._writable: Lake | None = None

    @cached_property
    def definition(self) -> dg.IOManagerDefinition:
        """The resource to bind to assets: one object, which is how Dagster knows it again."""

        def lake(context: dg.InitResourceContext) -> Iterator[PipelineIOManager]:
            run = context.run
            with beating(self.lake, self._pipeline, run.run_id) if run else nullcontext():
                yield self

        # A generator is taken, too.
        definition = dg.IOManagerDefinition(lake)  # type: ignore[arg-type]
        _OF[definition] = self
        return definition

    @staticmethod
    def of(definition: object) -> PipelineIOManager | None:
        """Whose `definition` it is, None if it is nobody's."""
        return _OF.get(definition)

    def lake(self) -> Lake:
        """The lake, wherever the environment says it is now."""
        url = default_url(self._project)
        if self._opened is None or self._opened[0] != url:
            self._opened = url, open_lake(url)
        return self._opened[1]

    def checked_lake(self) -> Lake:
        """The lake, once it has taken a small write: no step works for what cannot be stored."""
        lake = self.lake()
        if self._writable is not lake:
            lake.check()
            self._writable = lake
        return lake

    def handle_output(self, context: dg.OutputContext, obj: Contents | Version) -> None:
        """Commit contents; a version that was committed by the step itself is only described."""
        with healing(context.step_context):
            if isinstance(obj, Version):
                version = obj
            else:
                version = self.store(context.step_context, context.asset_key, obj)
        context.add_output_metadata(describe(version))

    def load_input(self, context: dg.InputContext) -> Any:
        with healing(context.step_context):
            return self._loaded(context)

    def _loaded(self, context: dg.InputContext) -> Any:
        self.checked_lake()
        step = context.step_context
        pipeline, asset = context.asset_key.path
        read = self._run(step, pipeline).read(_inputs(step, pipeline))
        version = read[asset]
        asked = context.dagster_type.typing_type
        module = getattr(asked, "__module__", "").partition(".")[0]
        if module == "polars":
            return version.table.to_polars()
        if module == "pandas":
            return self._checked(version, asset)
        return version

    def store(self, step: Any, key: dg.AssetKey, contents: Contents) -> Version:
        """Commit a version of an asset of this step, and tell Dagster its data version."""
        pipeline, asset = key.path
        run = self._run(step, pipeline)
        inputs = _inputs(step, pipeline)
        upstream = contents.made_from or {
            name: v.version for name, v in (run.read(inputs) if inputs else {}).items()
        }
        version = self.lake().write(
            pipeline,
            asset,
            contents,
            run_id=step.run_id,
            code_version=step.job_def.asset_layer.get(key).code_version or "",
            upstream=upstream,
        )
        run.wrote(asset, version.version)
        step.set_data_version(key, dg.DataVersion(content_hash(version)))
        return version

    def _run(self, step: Any, pipeline: str) -> Run:
        return Run(self.lake(), pipeline, step.run_id, chain_of(step))

    def _checked(self, version: Version, asset: str) -> Any:
        frame = version.table.to_pandas()
        if contract := self._contracts.get(asset):
            checked = dataframe_type(contract).type_check(None, frame)  # type: ignore[arg-type]
            if not checked.success:
                raise dg.Failure(f"{asset}: {checked.description}", allow_retries=False)
        return frame


def chain_of(step: Any) -> list[str]:
    """The runs that this step's run continues, nearest first."""
    parents: list[str] = []
    parent = step.dagster_run.parent_run_id
    while parent and parent not in parents:
        parents.append(parent)
        run = step.instance.get_run_by_id(parent)
        parent = run.parent_run_id if run else None
    return parents


def content_hash(version: Version) -> str:
    """What a version holds, as 16 hex digits: equal content, equal hash."""
    if version.manifest.table:
        return version.table.content_hash()
    files = [[f.path, f.sha256] for f in version.manifest.files if f.path not in _TIMED]
    return hashlib.blake2b(json.dumps(files).encode(), digest_size=8).hexdigest()


def describe(version: Version) -> dict[str, Any]:
    """Metadata that every version has."""
    table = version.manifest.table
    described: dict[str, Any] = {
        "version": version.version,
        "lake": dg.MetadataValue.path(version.url),
        "bytes": sum(file.bytes for file in version.manifest.files),
    }
    if any(file.path == _REPORT for file in version.manifest.files):
        described["report"] = dg.MetadataValue.path(f"{version.url}/{_REPORT}")
    if table:
        described["dagster/row_count"] = table.rows
        if cursor := version.table.cursor:
            described["cursor"] = cursor_text(cursor)
            own = version.table.stamp.get("version") == version.version
            described["new_rows"] = cursor.get("new_rows", 0) if own else 0
            if own and cursor.get("gaps"):
                described["gaps"] = dg.MetadataValue.md("\n".join(f"- {g}" for g in cursor["gaps"]))
            if own and cursor.get("skipped"):
                described["offsets_without_message"] = cursor["skipped"]
            schema = version.table.scan().collect_schema()
            columns = [dg.TableColumn(name, str(kind)) for name, kind in schema.items()]
            described["dagster/column_schema"] = dg.TableSchema(columns=columns)
    return described


def _inputs(step: Any, pipeline: str) -> list[str]:
    """The pipeline's assets that this step reads; not those that it only comes after."""
    assets = step.job_def.asset_layer.get_assets_def_for_node(step.node_handle)
    if assets is None:
        return []
    read = {i.name for i in assets.node_def.input_defs if not i.dagster_type.is_nothing}
    return [
        key.path[1]
        for name, key in assets.keys_by_input_name.items()
        if name in read and len(key.path) == 2 and key.path[0] == pipeline
    ]
