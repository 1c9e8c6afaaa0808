"""The front door: a model is packed, asked in a fresh process, and only then becomes champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etl_ml.deploy.package import pack, requirements, signature
from etl_ml.deploy.verify import TOLERANCE, NotLoadable, largest_difference
from etl_ml.lake import ChampionChanged, Lake, Log, Run, Version
from etl_ml.spec.pipeline import Pipeline
from etl_ml.train import load_model
from etl_ml.train.metrics import answers_of
from etl_ml.train.trusted import own_types
from etl_ml.transform import rows_of

_ASKED = 1_000


@dataclass(frozen=True)
class Deployment:
    """What became of a model.

    Attributes
    ----------
    report : what `deployment_report.json` holds; None if nothing was deployed
    skipped : why a model that is not to be deployed was not; a good end
    problem : why a model that was to be deployed could not be; the check `answers_as_trained`
    """

    report: dict[str, Any] | None = None
    skipped: tuple[str, ...] = ()
    problem: str | None = None


def deploy(
    lake: Lake,
    pipeline: Pipeline,
    trained_model: Version,
    evaluation: Version,
    arrays: Version,
    clean: Version,
    *,
    run_id: str = "",
) -> Deployment:
    """Make a model the champion of its pipeline, if its evaluation allows it.

    Parameters
    ----------
    trained_model, evaluation, arrays, clean : versions that belong together
    run_id : for the log
    """
    report = evaluation.read("evaluation_report.json")
    if not report["deployable"]:
        return Deployment(skipped=tuple(report["reasons"]))
    version = trained_model.version
    lineage = Run(lake, pipeline.name, run_id).closure("trained_model", version)
    model = load_model(trained_model, pipeline)
    rows = rows_of(clean.table.scan(), arrays.read("test_rows.npy")[:_ASKED])
    asked = rows.select(list(pipeline.features_of()))
    # What training answers: from its own features, not through the stored preprocessor.
    expected = answers_of(model.estimator, arrays.read("test_features.npy")[:_ASKED])
    validated = lake.open(pipeline.name, "validated_data", lineage["validated_data"])
    content = {
        "model.skops": trained_model.read("model.skops"),
        "signature.json": signature(pipeline, model, asked, expected),
        "profile.json": validated.read("profile.json"),
        "evaluation_report.json": report,
        "model_card.md": evaluation.read("model_card.md"),
        "requirements.txt": requirements(),
    }
    if trained_model.read("onnx_report.json")["converted"]:
        content["model.onnx"] = trained_model.read("model.onnx")
    package = pack(lake, pipeline.name, version, content, lineage)
    try:
        difference = largest_difference(package, asked, expected, own_types(pipeline))
    except NotLoadable as error:
        return Deployment(problem=f"{error}\nThe champion stays.")
    if not difference <= TOLERANCE:  # NaN is no answer
        return Deployment(
            problem=f"loaded in a fresh process, the model's answers differ from training's "
            f"by up to {difference:.2g}; {TOLERANCE:g} is allowed. The champion stays."
        )
    metric, compared = pipeline.metric, report["champion"]
    try:
        Log(lake, pipeline.name).promote(
            version,
            replaces=compared["version"] if compared else None,
            run_id=run_id,
            reason=_reason(report),
            metric=metric,
            value=report["metrics"]["test"][metric]["value"],
            compared=bool(compared) and compared["passed"] is not None,
        )
    except ChampionChanged as changed:
        return Deployment(skipped=(changed.what,))
    target = {
        "type": "registry",
        "url": package.url,
        "verified": True,
        "max_abs_difference": difference,
    }
    return Deployment(
        {"version": version, "champion": True, "targets": [target], "reasons": [_reason(report)]}
    )


def _reason(report: Mapping[str, Any]) -> str:
    champion = report["champion"]
    gates = f"{len(report['gates'])} gates passed" if report["gates"] else "no gates are set"
    if champion is None:
        return f"{gates}; the first champion"
    return f"{gates}; {champion['reason']}"
