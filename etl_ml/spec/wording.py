"""What is wrong with a value of a defs.yaml, in the words of YAML and not of Python."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any

from etl_ml.spec.error import listed
from etl_ml.spec.training import METRICS, Metric
from etl_ml.spec.walk import Path, examples_at, sections_at

_NUMBERS = {
    "bool": "should be true or false",
    "int": "should be a whole number",
    "float": "should be a number",
}


def worded(
    problem: Mapping[str, Any], path: Path, value: Any, attributes: Mapping[str, Any]
) -> str:
    """One of pydantic's problems as the end of a sentence that begins with its key.

    Parameters
    ----------
    value : the scalar that was seen, if it may be shown
    """
    kind, context = str(problem["type"]), problem.get("ctx", {})
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return f"should be a mapping{_as_mapping(path, value, attributes)}"
    if kind in ("tuple_type", "list_type"):
        if sections_at([*path, 0], attributes):
            return "should be a list of mappings"
        return "should be a list" + ("" if value is None else f", as in [{value}]")
    if kind == "too_short":
        least, there = context["min_length"], context["actual_length"]
        return f"should have {least} or more items, and has {there}"
    if kind == "literal_error" and (known := choices(problem, attributes)):
        return f"should be {'' if len(known) == 1 else 'one of '}{', '.join(known)}"
    if kind == "string_pattern_mismatch":
        examples = examples_at(path, attributes)
        like = listed(examples) if examples else f"what {context['pattern']} matches"
        return f"should be written like {like}"
    if kind == "string_type":
        return "should be text" + ("" if value is None else "; put it in quotes")
    of = _NUMBERS.get(kind.partition("_")[0])
    if of and kind.endswith(("_type", "_parsing", "_from_float")):
        return of
    told = str(problem["msg"])
    for words in ("Value error, ", "Input ", "String "):
        told = told.removeprefix(words)
    return told.rstrip(".")


def choices(problem: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[str]:
    """What could have been written instead; of the metrics, those of the task."""
    context = problem.get("ctx", {})
    told = context.get("expected_tags", context.get("expected", ""))
    expected = re.findall(r"'([^']+)'", str(told))
    if tuple(expected) != typing.get_args(Metric):
        return expected
    target = attributes.get("target")
    task = target.get("task") if isinstance(target, Mapping) else None
    return list(METRICS.get(str(task), METRICS["classification"]))


def _as_mapping(path: Path, value: Any, attributes: Mapping[str, Any]) -> str:
    """An example with the value that was given under the key that takes it, or the keys."""
    sections = sections_at(path, attributes)
    if not sections:
        return " of names to values"
    fields = [(name, field) for kind in sections for name, field in kind.model_fields.items()]
    if value is not None:
        for name, field in fields:
            if value in typing.get_args(field.annotation):
                return f", as in {{{name}: {value}}}"
    if len(sections) > 1:
        return " with the key type"
    names = [name for name, _ in fields]
    return f" with the key{'s' if len(names) > 1 else ''} {listed(names)}"
