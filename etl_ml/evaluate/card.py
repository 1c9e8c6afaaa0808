"""The model card: what a person should know before the model is used.

After Mitchell et al. (2019), Model Cards for Model Reporting, FAT*.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.resources import files
from typing import Any

from etl_ml.spec.contract import Column
from etl_ml.spec.pipeline import Pipeline

_MOST_COLUMNS = 40
_SHOWN_METRICS = 5
_LIBRARIES = ("etl_ml", "scikit-learn", "lightgbm", "numpy", "polars")
_PICTURES = {
    "roc.png": "ROC curve",
    "precision_recall.png": "Precision and recall",
    "confusion_matrix.png": "Confusion matrix",
    "calibration.png": "Calibration",
    "predicted.png": "Predicted and true",
    "residuals.png": "Residuals",
    "importance.png": "Permutation importance",
}


def model_card(
    report: Mapping[str, Any],
    pipeline: Pipeline,
    lineage: Mapping[str, str],
    notes: Mapping[str, Any] | None = None,
) -> str:
    """The card as Markdown.

    Parameters
    ----------
    report : the evaluation's
    lineage : version by asset
    notes : what `preprocessing_report.json` holds
    """
    lines = [
        f"# {pipeline.name}",
        "",
        pipeline.description or f"Predicts `{pipeline.target.column}`.",
        "",
        f"**{'May be deployed' if report['deployable'] else 'Not deployable'}.** "
        + _verdict(report),
        "",
        *_model(report, pipeline),
        *_data(report, pipeline, lineage),
        *_contract(pipeline, notes or {}),
        *_metrics(report),
        *_slices(report),
        "## Against the champion",
        "",
        _champion(report["champion"]),
        "",
        "## What it looks at",
        "",
        "| column | loss when shuffled |",
        "|---|---|",
        *(
            f"| {_cell(e['column'])} | {e['mean']:.4f} ± {e['std']:.4f} |"
            for e in report["importance"][:15]
        ),
        "",
        "## Limits",
        "",
        "The intervals speak of rows like the test rows. They say nothing of rows from elsewhere, "
        "of other times, or of groups that were not looked at.",
        *_limits(report, pipeline),
        "",
        "## Made with",
        "",
        ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES) + ".",
        "",
    ]
    return "\n".join(lines)


def card_html(card: str, pictures: Mapping[str, bytes]) -> str:
    """The card as one page, with its pictures in it."""
    from jinja2 import Environment
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    # Raw HTML is off: names and labels come from data.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(card)
    shown = [
        (title, base64.b64encode(pictures[name]).decode())
        for name, title in _PICTURES.items()
        if name in pictures
    ]
    source = (files("etl_ml.evaluate") / "card.html.jinja").read_text(encoding="utf-8")
    template = Environment(autoescape=True).from_string(source)
    title = card.partition("\n")[0].removeprefix("# ")
    return template.render(title=title, body=Markup(body), pictures=shown)


def _model(report: Mapping[str, Any], pipeline: Pipeline) -> list[str]:
    target, classes = pipeline.target.column, report["classes"]
    lines = [
        "## Model",
        "",
        f"- Estimator: {report['model']['candidate']}{_params(report['model']['params'])}",
    ]
    if not classes:
        lines.append(f"- Predicts `{target}`, a number")
    else:
        positive = f"; positive is `{classes[-1]}`" if len(classes) == 2 else ""
        lines.append(f"- Predicts `{target}`: {', '.join(f'`{c}`' for c in classes)}{positive}")
        rule = report.get("threshold_rule")
        lines.append(
            f"- Threshold: {report['threshold']:.4g}"
            + (f", {rule['rule']} on out-of-fold rows" if rule else "")
            if len(classes) == 2
            else "- Most probable class"
        )
    if pipeline.training.calibrate != "none":
        lines.append(f"- Probabilities are calibrated ({pipeline.training.calibrate})")
    if pipeline.training.class_weight != "none":
        lines.append("- Classes weigh the same in training")
    return [*lines, f"- Owners: {', '.join(pipeline.owners) or 'none named'}", ""]


def _data(report: Mapping[str, Any], pipeline: Pipeline, lineage: Mapping[str, str]) -> list[str]:
    split = pipeline.split
    by = f" by `{split.column}`" if split.column else ""
    return [
        "## Data",
        "",
        f"- Source: `{pipeline.source.address}`",
        f"- Training rows: {report['rows']['train']:,}; test rows: {report['rows']['test']:,}",
        f"- Split: {split.strategy}{by}, seed {split.seed}"
        + (", equal feature rows on one side" if split.keep_duplicates_together else ""),
        *(f"- {asset}: version {version}" for asset, version in sorted(lineage.items())),
        "",
    ]


def _contract(pipeline: Pipeline, notes: Mapping[str, Any]) -> list[str]:
    features = pipeline.features_of()
    rows = [
        f"| {_cell(name)} | {column.type} | {_cell(_rules(column))} | "
        f"{_cell('; '.join(notes.get(name, {}).get('notes', [])))} |"
        for name, column in list(features.items())[:_MOST_COLUMNS]
    ]
    more = len(features) - len(rows)
    return [
        "## Features",
        "",
        "| column | type | contract | in training |",
        "|---|---|---|---|",
        *rows,
        *([f"| and {more} more | | | |"] if more > 0 else []),
        "",
    ]


def _rules(column: Column) -> str:
    if column.sensitive:
        return "sensitive"
    given = [] if column.nullable else ["not null"]
    if column.min is not None and column.max is not None:
        given.append(f"{column.min!s} to {column.max!s}")
    elif column.min is not None:
        given.append(f"at least {column.min!s}")
    elif column.max is not None:
        given.append(f"at most {column.max!s}")
    if column.allowed is not None:
        shown = ", ".join(map(str, column.allowed[:6]))
        given.append(f"one of {shown}{', …' if len(column.allowed) > 6 else ''}")
    if column.pattern is not None:
        given.append(f"like {column.pattern[:40]}")
    return ", ".join(given)


def _metrics(report: Mapping[str, Any]) -> list[str]:
    overfit = report["overfit"]
    return [
        "## Test metrics",
        "",
        "| metric | value | 95 % interval | gate |",
        "|---|---|---|---|",
        *(
            _metric_row(name, found, report["gates"])
            for name, found in report["metrics"]["test"].items()
        ),
        "",
        f"Cross-validation promised {overfit['metric']} {overfit['cross_validated']:.4f}; the "
        f"difference is {overfit['difference']:+.4f}, positive where the test rows are worse.",
        *_baseline(report),
        "",
    ]


def _baseline(report: Mapping[str, Any]) -> Iterator[str]:
    found = report["baseline"]
    if found["value"] is None:
        return
    yield f"Answering every row alike reaches {found['value']:.4f} at best" + (
        "." if found["beaten"] else ": **the model is not surely better than that.**"
    )


def _slices(report: Mapping[str, Any]) -> Iterator[str]:
    if not report["slices"]:
        return
    yield from ("## Slices of the test rows", "")
    # What is gated first, then what ranked the candidates, then the rest.
    first = [*report["gates"], report["overfit"]["metric"], *report["metrics"]["test"]]
    shown = list(dict.fromkeys(first))[:_SHOWN_METRICS]
    for column, values in report["slices"].items():
        yield from (
            f"| {_cell(column)} | rows | {' | '.join(shown)} | gates |",
            f"|---|---|{'---|' * len(shown)}---|",
        )
        for value, found in values.items():
            cells = [_interval(found["metrics"][name]) for name in shown]
            yield f"| {_cell(value)} | {found['rows']:,} | {' | '.join(cells)} | {_gates(found)} |"
        yield ""


def _interval(found: Mapping[str, float | None]) -> str:
    if found["value"] is None:
        return ""
    if found["low"] is None or found["high"] is None:
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _gates(found: Mapping[str, Any]) -> str:
    judged = [gate["passed"] for gate in found["gates"].values()]
    missed = [name for name, gate in found["gates"].items() if gate["passed"] is False]
    if missed:
        return f"misses {', '.join(missed)}"
    if judged and None in judged:
        return "too few rows"
    return "passed" if judged else ""


def _limits(report: Mapping[str, Any], pipeline: Pipeline) -> Iterator[str]:
    test = report["rows"]["test"]
    if test < 200:
        yield f"There are {test} test rows: the intervals are wide and rough."
    if pipeline.split.strategy == "stratified":
        yield (
            "A stratified split is drawn anew when rows come: a later model may be tested on rows "
            "that this one was trained on."
        )


def _verdict(report: Mapping[str, Any]) -> str:
    if report["reasons"]:
        return f"{'; '.join(report['reasons'])}."
    return "Every gate is passed." if report["gates"] else "No gate is set."


def _params(params: Mapping[str, Any]) -> str:
    """In words; what a search drew is shown to four digits, and stands whole in the report."""
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in params.items()}
    return f" ({', '.join(f'{k}={v}' for k, v in shown.items())})" if shown else ""


def _metric_row(name: str, found: Mapping[str, float], gates: Mapping[str, Any]) -> str:
    gate = gates.get(name)
    verdict = f"{gate['limit']:g} {'passed' if gate['passed'] else 'missed'}" if gate else ""
    return (
        f"| {name} | {found['value']:.4f} | {found['low']:.4f} to {found['high']:.4f} | {verdict} |"
    )


def _cell(text: str) -> str:
    """Text in a table's cell, which a bar would end; what data say is no markup."""
    plain = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.replace("|", "\\|").replace("\n", " ")


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
