"""The front door: a model is packed, asked in a fresh process, and only then becomes champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_ml.deploy.package import pack, requirements, signature
from etl_ml.deploy.verify import TOLERANCE, largest_difference
from etl_ml.lake import ChampionChanged, Lake, Log
from etl_ml.spec.pipeline import Pipeline

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from etl_ml.train.model import TabularClassifier

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
    version: str,
    model: TabularClassifier,
    features: np.ndarray[Any, Any],
    rows: pl.DataFrame,
    files: Mapping[str, Any],
    lineage: Mapping[str, str],
    *,
    run_id: str = "",
) -> Deployment:
    """Make a model the champion of its pipeline, if its evaluation allows it.

    Parameters
    ----------
    version : of `trained_model`
    model, features : what training answers with: the model, and the test rows' features (m, k)
    rows : frame of the same m test rows before preprocessing
    files : the package's files that are there already, `evaluation_report.json` among them
    lineage : version by asset, of all that the model descends from
    """
    report = files["evaluation_report.json"]
    if not report["deployable"]:
        return Deployment(skipped=tuple(report["reasons"]))
    expected = model.estimator.predict_proba(features[:_ASKED])
    asked = rows.head(_ASKED).select(list(pipeline.features_of()))
    content = {
        **files,
        "signature.json": signature(pipeline, model, asked, expected),
        "requirements.txt": requirements(),
    }
    package = pack(lake, pipeline.name, version, content, lineage)
    difference = largest_difference(package, asked, expected)
    if difference > TOLERANCE:
        return Deployment(
            problem=f"loaded in a fresh process, the model's probabilities differ from training's "
            f"by up to {difference:.2g}; {TOLERANCE:g} is allowed. The champion stays."
        )
    metric, compared = pipeline.training.metric, report["champion"]
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
