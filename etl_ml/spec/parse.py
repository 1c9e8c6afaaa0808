"""From the attributes of a `defs.yaml` to a `Pipeline`, with errors that say what to change."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from etl_ml.spec.deployment import CLASS
from etl_ml.spec.error import EtlMlError, bounded, nearest
from etl_ml.spec.pipeline import Pipeline

_SHOWN = 5
_CREDENTIALS = re.compile(r"[^\s/:@]:[^\s@]+@")  # user:password@, in a field that wants none


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
        path = _as_written(_without_tags(problem["loc"], attributes), attributes)
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
        known = _keys(path[:-1], attributes)
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
        problem["ctx"]["expected"] = problem["ctx"]["expected_tags"]
    if problem["type"] == "missing":
        return InvalidPipeline(f"{title}: {key!r} is required.", where=file, fix=f"add {key}")
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if not path:  # a disagreement of sections names its key itself
        key, _, message = message.partition(": ")
    if _is_branch(_without_tags(problem["loc"], attributes), path):
        message = "should be one value: text, a number, a date, true or false"
    the_key = problem["loc"][-1:] == ("[key]",)
    value = path[-1] if the_key else _value(path, attributes)
    told = problem.get("ctx", {})
    expected = re.findall(r"'([^']+)'", str(told.get("expected", "")))
    close = nearest(str(value or told.get("seen", "")).strip("'"), expected)
    return InvalidPipeline(
        f"{title}: {key}: {message[0].lower() + message[1:]}{'' if message[-1] == '?' else '.'}",
        seen=None if value is None or _is_secret(value, path, attributes) else bounded(value),
        where=file,
        close=repr(close) if close else None,
        fix=f"correct {key}",
    )


def _without_tags(
    location: tuple[str | int, ...], attributes: Mapping[str, Any]
) -> tuple[str | int, ...]:
    """The path without the tags that pydantic puts in for the member of a union it chose."""
    path: list[str | int] = []
    value: Any = attributes
    tagged = True
    for part in location:
        tag = value.get("type") if isinstance(value, Mapping) else None
        chosen = not tagged and part in (tag, CLASS)
        if chosen and part not in (value or ()) and _is_union(path, attributes):
            tagged = True  # once for each mapping
            continue
        path.append(part)
        tagged = False
        value = _item(value, part)
    return tuple(path)


def _item(value: Any, part: str | int) -> Any:
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def _is_union(path: list[str | int], attributes: Mapping[str, Any]) -> bool:
    models = [kind for kind in _walk(path, attributes, every=True) if _is_section(kind)]
    return len(models) > 1


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _as_written(location: tuple[str | int, ...], attributes: Mapping[str, Any]) -> list[str | int]:
    """The path of keys that the user wrote: pydantic appends markers of its own."""
    path = list(location)
    while path and str(path[-1]).endswith(("[key]", "()")):
        path.pop()
    while path and path[-1] in _BRANCHES and set(_walk(path[:-1], attributes)) <= _SCALARS:
        path.pop()
    return path


_SCALARS = {bool, int, float, str, datetime, date, type(None)}
_BRANCHES = {kind.__name__ for kind in _SCALARS}


def _is_branch(location: tuple[str | int, ...], path: list[str | int]) -> bool:
    """Whether pydantic tried one type after another, and each of its complaints is one of many."""
    return len(location) > len(path) and location[len(path)] in _BRANCHES


def _value(path: list[str | int], attributes: Any) -> Any:
    """The scalar at a path of the attributes, or None."""
    value = attributes
    for part in path:
        value = _item(value, part)
    return None if isinstance(value, dict | list | tuple) else value


def _walk(path: list[str | int], attributes: Mapping[str, Any], every: bool = False) -> list[Any]:
    """The annotations met along a path of keys, models and containers unwrapped.

    Of several models that `type` tells apart only the one that was asked for, unless `every`.
    """
    current: list[Any] = [Pipeline]
    value: Any = attributes
    for place, part in enumerate(path):
        following: list[Any] = []
        for kind in current:
            if _is_section(kind):
                field = kind.model_fields.get(str(part))
                following += _unwrapped(field.annotation) if field else []
            else:
                inner = [arg for arg in typing.get_args(kind) if arg is not Ellipsis]
                following += [a for arg in inner[-1:] for a in _unwrapped(arg)]
        value = _item(value, part)
        last = every and place == len(path) - 1
        current = following if last else _chosen(following, value)
    return current


def _chosen(kinds: list[Any], value: Any) -> list[Any]:
    tag = value.get("type") if isinstance(value, Mapping) else None
    tagged = [
        kind
        for kind in kinds
        if _is_section(kind)
        and "type" in kind.model_fields
        and tag in typing.get_args(kind.model_fields["type"].annotation)
    ]
    return tagged or kinds


def _unwrapped(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin in (dict, tuple, list):
        return [annotation]
    if origin is typing.Annotated:
        return _unwrapped(typing.get_args(annotation)[0])
    arguments = typing.get_args(annotation)
    if origin is typing.Literal or not arguments:
        return [annotation]
    return [inner for argument in arguments for inner in _unwrapped(argument)]


def _keys(path: list[str | int], attributes: Mapping[str, Any]) -> list[str]:
    models = [kind for kind in _walk(path, attributes) if _is_section(kind)]
    return [name for model in models for name in model.model_fields]


def _is_secret(value: Any, path: list[str | int], attributes: Mapping[str, Any]) -> bool:
    credentials = isinstance(value, str) and _CREDENTIALS.search(value) is not None
    return credentials or _field_is_secret(path, attributes)


def _field_is_secret(path: list[str | int], attributes: Mapping[str, Any]) -> bool:
    return any(
        kind in (SecretStr, SecretBytes)
        for depth in range(len(path) + 1)
        for kind in _walk(path[:depth], attributes, every=True)
    )
