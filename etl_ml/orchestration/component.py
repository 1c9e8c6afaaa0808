"""`etl_ml.TabularPipeline`: one defs.yaml becomes a whole pipeline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Self

import dagster as dg
from dagster.components.core.component_tree import ComponentTreeException
from pydantic import BaseModel, ConfigDict

from etl_ml.orchestration.alerts import build_alerts
from etl_ml.orchestration.assets import build_assets
from etl_ml.orchestration.deployment import target_assets
from etl_ml.orchestration.io_manager import PipelineIOManager
from etl_ml.orchestration.jobs import build_jobs
from etl_ml.orchestration.loads import build_loads
from etl_ml.orchestration.predictions import build_predictions
from etl_ml.orchestration.scaffolder import PipelineScaffolder
from etl_ml.orchestration.schedules import check_schedule
from etl_ml.spec import EtlMlError, InvalidPipeline, Pipeline, parse
from etl_ml.spec.json_schema import stored_schema
from etl_ml.spec.template import rendered


class PipelineError(ComponentTreeException):
    """A defs.yaml that cannot be a pipeline; the message says what to change."""


class Attributes(BaseModel):
    """What the YAML gives, whatever it is: `etl_ml.spec` parses it, so that the errors are ours."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return stored_schema()


@dg.scaffold_with(PipelineScaffolder)
class TabularPipeline(dg.Component):
    """From a table of rows to a verified, deployed model.

    One YAML file says where the rows come from, what a row must look like, what is predicted and
    when a model is good enough. It becomes the assets `raw_data`, `validated_data`,
    `quarantined_data`, `clean_data`, `transformed_arrays`, `trained_model`, `model_evaluation` and
    `deployed_model`, their checks, and the job `<name>_job`; with `load`, also `loaded_data`, and
    with `predictions`, also `predictions`; with `automation`, its sensors and its schedule.
    """

    def __init__(self, pipeline: Pipeline, home: Path, project: Path) -> None:
        self.pipeline = pipeline
        self._home = home
        self._project = project

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return Attributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Parse the YAML's attributes.

        Raises
        ------
        PipelineError
            Names the key, the value, the nearest valid key and the file.
        """
        try:
            return cls._load(attributes, context)
        except EtlMlError as error:
            # Dagster ends its output with this one as it is, and wraps every other.
            raise PipelineError(str(error)) from None

    @classmethod
    def _load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        home = context.path if context.path.is_dir() else context.path.parent
        file = context.path / "defs.yaml" if context.path.is_dir() else context.path
        shown = os.path.relpath(file, context.project_root)
        given = (attributes.model_extra or {}) if attributes else {}
        scope = context.resolution_context.scope
        pipeline = parse(rendered(given, scope, file=shown), file=shown)
        check_schedule(pipeline, shown)
        place = (shown, context.component_path.get_display_key(context.defs_module_path))
        other = _Names.of(context.component_tree).setdefault(pipeline.name, place)
        if other != place:
            raise InvalidPipeline(
                f"{pipeline.name}: two pipelines have this name.",
                seen=f"{other[0]} and {shown}",
                where=shown,
                fix="give one of them another name",
            )
        return cls(pipeline, home, context.project_root)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Assets, checks, job, sensors and schedule; what they need is bound to these alone."""
        pipeline = self.pipeline
        contracts = {"validated_data": pipeline.contract}
        lake = PipelineIOManager(self._project, pipeline.name, contracts)
        assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
            *build_assets(pipeline, self._home, lake),
            *target_assets(pipeline),
            *build_loads(pipeline, pipeline.load, self._home, lake, pipeline.contract.primary_key),
            *build_predictions(pipeline, self._home, lake),
        ]
        alerts = dg.Definitions(assets=assets, sensors=build_alerts(pipeline, assets, lake))
        return dg.Definitions.merge(alerts, build_jobs(pipeline, self._home, lake))


class _Names:
    """In which file and document each name was seen, while one project is loaded."""

    _tree: object = None
    _places: ClassVar[dict[str, tuple[str, str]]] = {}

    @classmethod
    def of(cls, tree: object) -> dict[str, tuple[str, str]]:
        if tree is not cls._tree:
            cls._tree, cls._places = tree, {}
        return cls._places
