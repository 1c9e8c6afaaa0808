"""From the attributes of a `defs.yaml` to a `Pipeline`, with errors that say what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from etl_ml.spec.error import EtlMlError, bounded, nearest
from etl_ml.spec.pipeline import Pipeline
from etl_ml.spec.walk import (
    as_written,
    is_branch,
    is_empty,
    is_secret,
    keys_at,
    scalar_at,
    without_tags,
)
from etl_ml.spec.wording import choices, worded

_SHOWN = 5


class InvalidPipeline(EtlMlError):
    """A `defs.yaml` that cannot be a pipeline."""


def parse(attributes: Mapping[str, Any], *, file: str) -> Pipeline:
    """Read the `attributes` of a `defs.yaml`.

    Parameters
    ----------
    attributes : the mapping as YAML gives it, templates resolved
    file : the path shown in errors

    Raises
    ------
    InvalidPipeline
        Names each offending key by its path, the value seen (scalars only, never a secret), the
        nearest valid key, and the file.
    """
    try:
        return Pipeline.model_validate(dict(attributes))
    except ValidationError as error:
        problems = error.errors(include_url=False)
    name = attributes.get("name")
    title = name[:60] if isinstance(name, str) else "pipeline"
    found: dict[str, InvalidPipeline] = {}
    for problem in problems:
        path = as_written(without_tags(problem["loc"], attributes), attributes)
        key = ".".join(map(str, path)) or "attributes"
        found.setdefault(key, _explain(title, key, path, dict(problem), attributes, file))
    for key in [k for k in found if any(other.startswith(f"{k}.") for other in found)]:
        del found[key]  # a consequence of what is wrong below it
    first, *rest = found.values()
    if rest:
        more = [str(problem) for problem in rest[: _SHOWN - 1]]
        hidden = len(rest) - len(more)
        first.fix = "\n".join([first.fix or "", *more, *([f"and {hidden} more"] if hidden else [])])
    raise first


def _explain(
    title: str,
    key: str,
    path: list[str | int],
    problem: dict[str, Any],
    attributes: Mapping[str, Any],
    file: str,
) -> InvalidPipeline:
    if problem["type"] == "extra_forbidden":
        known = keys_at(path[:-1], attributes)
        close = nearest(str(path[-1]), known)
        return InvalidPipeline(
            f"{title}: {key!r} is not a key of etl_ml.TabularPipeline.",
            where=file,
            close=repr(close) if close else None,
            fix=f"rename it to {close!r}" if close else f"the keys here are {', '.join(known)}",
        )
    if problem["type"] == "union_tag_not_found":
        return InvalidPipeline(f"{title}: '{key}.type' is required.", where=file, fix="add it")
    if problem["type"] == "union_tag_invalid":
        key = f"{key}.type"
        problem["msg"] = f"should be one of {problem['ctx']['expected_tags']}"
        path = [*path, "type"]
    if problem["type"] == "missing":
        return InvalidPipeline(f"{title}: {key!r} is required.", where=file, fix=f"add {key}")
    if is_empty(path, attributes):
        return InvalidPipeline(f"{title}: {key!r} is empty.", where=file, fix=f"fill in {key}")
    the_key = problem["loc"][-1:] == ("[key]",)
    value = path[-1] if the_key else scalar_at(path, attributes)
    shown = None if is_secret(path, attributes) else value
    message = worded(problem, path, shown, attributes)
    if not path:  # a disagreement of sections names its key itself
        key, _, message = message.partition(": ")
    if is_branch(without_tags(problem["loc"], attributes), path):
        message = "should be one value: text, a number, a date, true or false"
    seen = value or problem.get("ctx", {}).get("seen", "")
    close = nearest(str(seen).strip("'"), choices(problem, attributes))
    return InvalidPipeline(
        f"{title}: {key}: {message[0].lower() + message[1:]}{'' if message[-1] == '?' else '.'}",
        seen=None if shown is None else bounded(shown),
        where=file,
        close=repr(close) if close else None,
        fix=f"correct {key}",
    )
