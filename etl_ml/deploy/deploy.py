"""The front door: a model is packed, asked in a fresh process, and only then becomes champion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etl_ml.deploy.package import Package, open_package, pack
from etl_ml.deploy.push import Question, point, push, see_whose_they_are
from etl_ml.deploy.requirements import requirements
from etl_ml.deploy.signature import signature
from etl_ml.deploy.target import Pointer, Target
from etl_ml.lake import ChampionChanged, Lake, Log, Promotion, Run, Version
from etl_ml.spec.error import EtlMlError
from etl_ml.spec.pipeline import Pipeline

_ASKED = 1_000


@dataclass(frozen=True)
class Deployment:
    """What became of a model.

    Attributes
    ----------
    report : what `deployment_report.json` holds; None if nothing was deployed
    skipped : why a model that is not to be deployed was not; a good end
    problem : why a model that was to be deployed could not be, or which targets are behind
    answered : whether the packages that were asked answered as in training; the check
        `answers_as_trained`
    """

    report: dict[str, Any] | None = None
    skipped: tuple[str, ...] = ()
    problem: str | None = None
    answered: bool = True


def deploy(
    lake: Lake,
    pipeline: Pipeline,
    trained_model: Version,
    evaluation: Version,
    arrays: Version,
    clean: Version,
    *,
    targets: Sequence[Target] = (),
    run_id: str = "",
    by: str = "",
) -> Deployment:
    """Make a model the champion of its pipeline, if its evaluation allows it.

    It is packed, pushed to every target, read back and asked there; then it becomes champion in
    the registry, and the targets' pointers follow. With `approval: manual` it waits before that.
    A target that is behind from an earlier run is brought up in any case.

    Parameters
    ----------
    trained_model, evaluation, arrays, clean : versions that belong together
    run_id, by : for the log

    Raises
    ------
    EtlMlError
        A target cannot be asked what it serves, or another lake publishes there.
    """
    see_whose_they_are(targets, Log(lake, pipeline.name))
    report = evaluation.read("evaluation_report.json")
    if not report["deployable"]:
        return _healed(lake, pipeline, targets, tuple(report["reasons"]))
    version = trained_model.version
    question, content = _packed(lake, pipeline, trained_model, evaluation, arrays, clean)
    lineage = Run(lake, pipeline.name, run_id).closure("trained_model", version)
    package = pack(lake, pipeline.name, version, content, lineage)
    try:
        told = _proved(package, targets, question)
    except EtlMlError as error:
        return Deployment(problem=f"{error}\nThe champion stays.", answered=False)
    awaited = pipeline.deployment.approval == "manual"
    head = Log(lake, pipeline.name).head()
    if awaited and not (head and head.version == version):
        waits = f"approval is manual: etl-ml promote {pipeline.name} {version}"
        done = _healed(lake, pipeline, targets, (waits,))
        waiting = {"version": version, "champion": False, "targets": told}
        return done if done.problem else Deployment(waiting | {"reasons": list(done.skipped)})
    compared = report["champion"]
    try:
        promotion = Log(lake, pipeline.name).promote(
            version,
            replaces=compared["version"] if compared else None,
            run_id=run_id,
            by=by,
            reason=_reason(report),
            **_judged(report, pipeline),
        )
    except ChampionChanged as changed:
        return _healed(lake, pipeline, targets, (changed.what,))
    return _pointed(targets, promotion, told)


def promote(
    lake: Lake,
    pipeline: Pipeline,
    version: str,
    *,
    targets: Sequence[Target] = (),
    run_id: str = "",
    by: str = "",
    reason: str = "",
) -> Deployment:
    """Make a version champion whose package is in the registry: one that waits for approval, or
    an earlier one.

    It is asked again, in a fresh process and at every target, before a pointer moves.

    Raises
    ------
    UnreadablePackage, UntrustedPackage, MissingVersion
        The package, or what it is asked with, is gone or damaged.
    TargetError
        Another lake publishes to a target.
    """
    see_whose_they_are(targets, Log(lake, pipeline.name))
    package = open_package(lake, pipeline.name, version)
    above = {**package.lineage, "trained_model": version}
    question = _question(
        pipeline,
        *(
            lake.open(pipeline.name, asset, above[asset])
            for asset in ("trained_model", "transformed_arrays", "clean_data")
        ),
    )
    try:
        told = _proved(package, targets, question)
    except EtlMlError as error:
        return Deployment(problem=f"{error}\nThe champion stays.", answered=False)
    log = Log(lake, pipeline.name)
    head = log.head()
    promotion = log.promote(
        version,
        replaces=head.version if head else None,
        run_id=run_id,
        by=by,
        reason=reason or "promoted by hand",
        **_judged(json.loads(package.read("evaluation_report.json")), pipeline),
    )
    return _pointed(targets, promotion, told)


def _proved(
    package: Package, targets: Sequence[Target], question: Question
) -> list[dict[str, Any]]:
    """What the report says of the targets and of the registry, once all have answered."""
    here = question.difference(package)
    told = push(package, targets, question)
    registry = {
        "type": "registry",
        "url": package.url,
        "verified": True,
        "max_abs_difference": here,
    }
    return [*told, registry]


def _pointed(
    targets: Sequence[Target], promotion: Promotion, told: list[dict[str, Any]]
) -> Deployment:
    late = point(targets, _pointer(promotion))
    if late:
        return Deployment(problem=_late(promotion.version, late))
    report = {
        "version": promotion.version,
        "champion": True,
        "targets": told,
        "reasons": [promotion.reason],
    }
    return Deployment(report)


def _healed(
    lake: Lake, pipeline: Pipeline, targets: Sequence[Target], reasons: tuple[str, ...]
) -> Deployment:
    """Nothing new is deployed; but what is behind the registry is brought up to it."""
    head = Log(lake, pipeline.name).head() if targets else None
    if head is None:
        return Deployment(skipped=reasons)
    pointer = _pointer(head)
    late = [target for target in targets if target.current() != pointer]
    if late:
        done = promote(lake, pipeline, head.version, targets=late)
        if done.problem:
            return done
        places = ", ".join(target.url for target in late)
        reasons = (*reasons, f"{places}: brought up to the champion, {head.version}")
    # Again also where it is served already: what was to follow on the pointer may be left to do.
    still = point([target for target in targets if target not in late], pointer)
    if still:
        return Deployment(problem=_late(head.version, still))
    return Deployment(skipped=reasons)


def _late(version: str, late: Mapping[str, str]) -> str:
    told = "\n".join(f"{url}: {why}" for url, why in late.items())
    behind = "1 target is behind" if len(late) == 1 else f"{len(late)} targets are behind"
    return (
        f"{version} is champion, but {behind}; materialize deployed_model again when "
        f"{'it answers' if len(late) == 1 else 'they answer'}.\n{told}"
    )


def _pointer(promotion: Promotion) -> Pointer:
    return Pointer(int(promotion.entry), promotion.version, promotion.at)


def _question(
    pipeline: Pipeline, trained_model: Version, arrays: Version, clean: Version
) -> Question:
    # Imported here, as in the package's other modules: who only reads packages needs no
    # scikit-learn.
    from etl_ml.train import load_model
    from etl_ml.train.metrics import answers_of
    from etl_ml.train.trusted import own_types
    from etl_ml.transform import rows_of

    rows = rows_of(clean.table.scan(), arrays.read("test_rows.npy")[:_ASKED])
    estimator = load_model(trained_model, pipeline).estimator
    # What training answers: from its own features, not through the stored preprocessor.
    expected = answers_of(estimator, arrays.read("test_features.npy")[:_ASKED])
    asked = rows.select(list(pipeline.features_of()))
    return Question(asked, expected, own_types(pipeline))


def _packed(
    lake: Lake,
    pipeline: Pipeline,
    trained_model: Version,
    evaluation: Version,
    arrays: Version,
    clean: Version,
) -> tuple[Question, dict[str, Any]]:
    """What the package is asked, and its files."""
    from etl_ml.train import load_model
    from etl_ml.transform.learned import preprocessor_document

    question = _question(pipeline, trained_model, arrays, clean)
    above = Run(lake, pipeline.name, "").closure("trained_model", trained_model.version)
    validated = lake.open(pipeline.name, "validated_data", above["validated_data"])
    stored, onnx = trained_model.read("model.skops"), trained_model.read("onnx_report.json")
    model = load_model(trained_model, pipeline)
    content = {
        "model.skops": stored,
        "signature.json": signature(pipeline, model, question.rows, question.expected),
        "profile.json": validated.read("profile.json"),
        "evaluation_report.json": evaluation.read("evaluation_report.json"),
        "model_card.md": evaluation.read("model_card.md"),
        "requirements.txt": requirements(stored, ["onnxruntime"] if onnx["converted"] else ()),
    }
    if onnx["converted"]:
        content |= {"model.onnx": trained_model.read("model.onnx"), "onnx_report.json": onnx}
    if (document := preprocessor_document(model.preprocessor)) is not None:
        content["preprocessor.json"] = document
    return question, content


def _judged(report: Mapping[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    """What the log says of a model: its test score, and whether a champion was compared with it."""
    metric, compared = pipeline.metric, report["champion"]
    return {
        "metric": metric,
        "value": report["metrics"]["test"][metric]["value"],
        "compared": bool(compared) and compared["passed"] is not None,
    }


def _reason(report: Mapping[str, Any]) -> str:
    champion = report["champion"]
    gates = f"{len(report['gates'])} gates passed" if report["gates"] else "no gates are set"
    if champion is None:
        return f"{gates}; the first champion"
    return f"{gates}; {champion['reason']}"
