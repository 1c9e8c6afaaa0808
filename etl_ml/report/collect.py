"""What a run left in the lake, gathered for its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etl_ml.lake import Lake, Log, MissingVersion, Promotion, Run, Version
from etl_ml.spec.error import EtlMlError

_CURVES = {
    "roc.png": "ROC curve: true against false positives at each threshold",
    "precision_recall.png": "Precision against recall at each threshold",
    "confusion_matrix.png": "Confusion matrix: true against predicted classes",
    "calibration.png": "Calibration: predicted against observed shares",
    "predicted.png": "Predicted against true numbers",
    "residuals.png": "Residuals against predicted numbers",
    "importance.png": "Permutation importance: the loss when a column is shuffled",
}
_HISTORY = 20


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run, or of the newest versions.

    Attributes
    ----------
    versions : by asset, those that belong together
    evaluation, leaderboard, validation, drift, deployment : the reports, None where there is none
    pictures : (description, PNG) of each curve
    champion : who is champion now
    history : the champions, the newest last
    before : of the champion that this model was compared with: rows and candidate
    """

    pipeline: str
    lake_url: str
    versions: Mapping[str, Version]
    validation: Mapping[str, Any] | None = None
    drift: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    leaderboard: list[Mapping[str, Any]] | None = None
    deployment: Mapping[str, Any] | None = None
    pictures: tuple[tuple[str, bytes], ...] = ()
    champion: Promotion | None = None
    history: tuple[Promotion, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)


def collect(lake: Lake, pipeline: str, version: str | int | None = None) -> RunFacts:
    """Gather what belongs to a version of model_evaluation.

    Parameters
    ----------
    version : by default the latest; where validation stopped a run that is newer, that one

    Raises
    ------
    MissingVersion
        The pipeline has not run yet, or has no such version.
    """
    stopped = _stopped(lake, pipeline) if version is None else None
    history = tuple(Log(lake, pipeline).entries(last=_HISTORY))
    champion = history[-1] if history else None
    if stopped is not None:
        return RunFacts(
            pipeline,
            lake.url,
            {"quarantined_data": stopped},
            validation=stopped.read("validation_report.json"),
            drift=stopped.read("drift_report.json"),
            champion=champion,
            history=history,
        )
    evaluation = lake.open(pipeline, "model_evaluation", version)
    above = Run(lake, pipeline, "").closure("model_evaluation", evaluation.version)
    versions = {"model_evaluation": evaluation}
    for asset, number in above.items():
        versions[asset] = lake.open(pipeline, asset, number)
    validated, report = versions["validated_data"], evaluation.read("evaluation_report.json")
    return RunFacts(
        pipeline,
        lake.url,
        versions,
        validation=validated.read("validation_report.json"),
        drift=validated.read("drift_report.json"),
        evaluation=report,
        leaderboard=versions["trained_model"].read("leaderboard.json"),
        deployment=_deployment(lake, pipeline, evaluation.version),
        pictures=_pictures(evaluation),
        champion=champion,
        history=history,
        before=_before(lake, pipeline, report),
    )


def _stopped(lake: Lake, pipeline: str) -> Version | None:
    """The newest quarantined_data, if its run was stopped there."""
    if lake.latest(pipeline, "quarantined_data") is None:
        return None
    rejected = lake.open(pipeline, "quarantined_data")
    if lake.latest(pipeline, "model_evaluation") is None:
        return rejected
    validated = lake.open(pipeline, "validated_data")
    newer = rejected.manifest.created_at > validated.manifest.created_at
    return rejected if newer and rejected.manifest.run_id != validated.manifest.run_id else None


def _deployment(lake: Lake, pipeline: str, evaluation: str) -> Mapping[str, Any] | None:
    """The report of the newest deployed_model that was made from this evaluation."""
    for number in reversed(lake.versions(pipeline, "deployed_model")[-_HISTORY:]):
        deployed = lake.open(pipeline, "deployed_model", number)
        if deployed.manifest.upstream.get("model_evaluation") == evaluation:
            report: Mapping[str, Any] = deployed.read("deployment_report.json")
            return report
    return None


def _pictures(evaluation: Version) -> tuple[tuple[str, bytes], ...]:
    stored = {file.path for file in evaluation.manifest.files}
    return tuple(
        (told, evaluation.read_bytes(name)) for name, told in _CURVES.items() if name in stored
    )


def _before(lake: Lake, pipeline: str, report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the champion that was compared with, what can still be read."""
    compared = report["champion"]
    if compared is None:
        return {}
    try:
        model = lake.open(pipeline, "trained_model", compared["version"])
        best = model.read("leaderboard.json")[0]
        above = Run(lake, pipeline, "").closure("trained_model", model.version)
        split = lake.read(pipeline, "transformed_arrays", "split.json", above["transformed_arrays"])
    except (MissingVersion, EtlMlError, KeyError):
        return {}
    return {
        "candidate": best["candidate"],
        "train_rows": split["train"]["rows"],
        "test_rows": split["test"]["rows"],
        "created_at": model.manifest.created_at,
    }
