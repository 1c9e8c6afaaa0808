"""A draft as the defs.yaml that a person goes on from: what was found, and why it says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from etl_ml.draft.columns import DraftColumn
from etl_ml.draft.draft import Draft

_WIDEST = 28
_WRAP = 96


def document(draft: Draft, *, schema: str | None = None) -> str:
    """The text of a `defs.yaml`.

    Parameters
    ----------
    schema : path or URL of the JSON schema, for editors
    """
    return "\n".join(_lines(draft, schema)) + "\n"


def _lines(draft: Draft, schema: str | None) -> Iterator[str]:
    given = draft.attributes
    if schema:
        yield f"# yaml-language-server: $schema={schema}"
    for problem in draft.problems:
        yield from _comment(f"To be decided before it can run: {problem}.", "")
    yield "type: etl_ml.TabularPipeline"
    yield "attributes:"
    yield f"  name: {given['name']}"
    yield f"  description: Predicts {_scalar(draft.target_name)[:120]}. Say for whom, and what for."
    yield '  owners: []                     # "team:name" or e-mail addresses'
    yield ""
    yield "  source:"
    for key, value in given["source"].items():
        yield f"    {key}: {_flow(value)}"
    yield ""
    rows = f"{draft.rows:,} rows"
    seen = f"all {rows}" if draft.whole else f"the first {rows}"
    yield from _comment(
        f"What a row must look like, as {seen} do. A row that breaks a rule goes to "
        "quarantined_data with its reason; after the # is what was seen."
    )
    yield from _contract(draft)
    yield ""
    yield "  target:"
    for key, value in given["target"].items():
        yield f"    {key}: {_flow(value)}"
    if draft.target.why:
        yield from _comment(draft.target.why, "    ")
    if draft.target.rare:
        told = ", ".join(f"{_scalar(k)}: {n} rows" for k, n in list(draft.target.rare.items())[:8])
        yield from _comment(f"Too rare to be learned, and set aside: {told}.", "    ")
    if "positive" in given["target"]:
        yield from _comment("positive: the class that precision and recall are about.", "    ")
    if "validation" in given:
        yield ""
        yield "  validation:"
        for key, value in given["validation"].items():
            yield f"    {key}: {_flow(value)}"
    if "split" in given:
        yield ""
        yield "  split:"
        for key, value in given["split"].items():
            yield f"    {key}: {_flow(value)}"
        if given["split"].get("strategy") == "time":
            yield from _comment(
                "What is trained on comes before what is tested on: a model meets later rows.",
                "    ",
            )
    if "features" in given:
        yield ""
        yield "  features:"
        yield "    exclude:                     # kept in the data, and not shown to a model"
        reasons = {column.name: column.excluded for column in draft.columns}
        for name in given["features"]["exclude"]:
            why = reasons.get(name) or "time itself does not come again"
            yield f"      - {_flow(name):<{_WIDEST}} # {_one_line(why)}"
    yield ""
    yield "  training:"
    regression = draft.target.task == "regression"
    linear = "ridge" if regression else "logistic_regression"
    yield f"    candidates: [{linear}, random_forest, lightgbm]"
    yield ""
    example = "{r2: 0.5}" if regression else "{f1: 0.8}"
    yield "  evaluation:"
    yield f"    gates: {{}}                    # e.g. {example}: below it nothing is deployed"
    for note in draft.notes:
        yield ""
        yield from _comment(note)


def _contract(draft: Draft) -> Iterator[str]:
    contract = draft.attributes["contract"]
    yield "  contract:"
    for key, value in contract.items():
        if key != "columns":
            yield f"    {key}: {_flow(value)}"
    yield "    columns:"
    found = {column.name: column for column in draft.columns}
    names = {name: f"{_flow(name)}:" for name in contract["columns"]}
    width = min(_WIDEST, max(map(len, names.values())))
    rules = {name: _flow(rule) for name, rule in contract["columns"].items()}
    wide = min(60, max(map(len, rules.values())))
    for name, rule in rules.items():
        told = _told(found[name])
        line = f"      {names[name]:<{width}} {rule:<{wide}}"
        yield f"{line} # {told}" if told else line.rstrip()
    for column in draft.columns:
        if column.left_out:
            yield f"      # {_one_line(_flow(column.name))} is left out: {column.left_out}"


def _told(column: DraftColumn) -> str:
    return _one_line(column.seen)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _scalar(value: Any) -> str:
    return _one_line(str(value))


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, str) and "{{" in value:
        return json.dumps(value)
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return text.strip().removesuffix("...").strip()


def _comment(text: str, indent: str = "  ") -> Iterator[str]:
    line = f"{indent}#"
    for word in text.split():
        if len(line) + len(word) + 1 > _WRAP:
            yield line
            line = f"{indent}#"
        line += f" {word}"
    yield line
