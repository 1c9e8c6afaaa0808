"""The model card: what a person should know before the model is used.

After Mitchell et al. (2019), Model Cards for Model Reporting, FAT*.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etl_ml.spec.pipeline import Pipeline


def model_card(report: Mapping[str, Any], pipeline: Pipeline, lineage: Mapping[str, str]) -> str:
    """The card as Markdown, from the evaluation's report and the lineage's versions."""
    target = pipeline.target.column
    lines = [
        f"# {pipeline.name}",
        "",
        pipeline.description or f"Predicts `{target}`.",
        "",
        f"**{'May be deployed' if report['deployable'] else 'Not deployable'}.** "
        + _verdict(report),
        "",
        "## Model",
        "",
        f"- Estimator: {report['model']['candidate']}{_params(report['model']['params'])}",
        f"- Predicts `{target}`: {', '.join(f'`{label}`' for label in report['classes'])}"
        + (f"; positive is `{report['classes'][-1]}`" if len(report["classes"]) == 2 else ""),
        f"- Threshold: {report['threshold']:g}"
        if len(report["classes"]) == 2
        else "- Most probable class",
        f"- Owners: {', '.join(pipeline.owners) or 'none named'}",
        "",
        "## Data",
        "",
        f"- Source: `{pipeline.source.address}`",
        f"- Training rows: {report['rows']['train']:,}; test rows: {report['rows']['test']:,}",
        f"- Split: {pipeline.split.strategy}, seed {pipeline.split.seed}"
        + (", equal feature rows on one side" if pipeline.split.keep_duplicates_together else ""),
        *(f"- {asset}: version {version}" for asset, version in sorted(lineage.items())),
        "",
        "## Test metrics",
        "",
        "| metric | value | 95 % interval | gate |",
        "|---|---|---|---|",
        *(
            _metric_row(name, found, report["gates"])
            for name, found in report["metrics"]["test"].items()
        ),
        "",
        f"Cross-validation promised {report['overfit']['metric']} "
        f"{report['overfit']['cross_validated']:.4f}; the difference is "
        f"{report['overfit']['difference']:+.4f}, positive where the test rows are worse.",
        "",
        "## Against the champion",
        "",
        _champion(report["champion"]),
        "",
        "## What it looks at",
        "",
        "| column | loss when shuffled |",
        "|---|---|",
        *(
            f"| {e['column']} | {e['mean']:.4f} ± {e['std']:.4f} |"
            for e in report["importance"][:15]
        ),
        "",
        "## Limits",
        "",
        "The intervals speak of rows like the test rows. They say nothing of rows from elsewhere, "
        "of other times, or of groups that were not looked at.",
        "",
    ]
    return "\n".join(lines)


def _verdict(report: Mapping[str, Any]) -> str:
    if report["reasons"]:
        return f"{'; '.join(report['reasons'])}."
    return "Every gate is passed." if report["gates"] else "No gate is set."


def _params(params: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{k}={v}' for k, v in params.items())})" if params else ""


def _metric_row(name: str, found: Mapping[str, float], gates: Mapping[str, Any]) -> str:
    gate = gates.get(name)
    verdict = f"{gate['limit']:g} {'passed' if gate['passed'] else 'missed'}" if gate else ""
    return (
        f"| {name} | {found['value']:.4f} | {found['low']:.4f} to {found['high']:.4f} | {verdict} |"
    )


def _champion(champion: Mapping[str, Any] | None) -> str:
    if champion is None:
        return "There was no champion to compare with."
    if champion["difference"] is None:
        return f"Not compared with version {champion['version']}: {champion['reason']}."
    return (
        f"Version {champion['version']}, {champion['metric']} on the same {champion['rows']} rows: "
        f"{champion['difference']:+.4f} ({champion['low']:+.4f} to {champion['high']:+.4f}), "
        f"{champion['reason']}."
    )
