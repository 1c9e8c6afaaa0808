"""From a path of keys to the annotations and values that are met along it."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from etl_ml.spec.deployment import CLASS
from etl_ml.spec.pipeline import Pipeline

Path = Sequence[str | int]
_SCALARS = {bool, int, float, str, datetime, date, type(None)}
_SECRETS = (SecretStr, SecretBytes)
_BRANCHES = {kind.__name__ for kind in _SCALARS}
_CREDENTIALS = re.compile(r"[^\s/:@]:[^\s@]+@")  # user:password@, in a field that wants none


def item(value: Any, part: str | int) -> Any:
    """What stands under a key or at a place; None where there is none."""
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def scalar_at(path: Path, attributes: Any) -> Any:
    """The scalar at a path of the attributes, or None."""
    value = attributes
    for part in path:
        value = item(value, part)
    return None if isinstance(value, dict | list | tuple) else value


def is_empty(path: Path, attributes: Any) -> bool:
    """Whether the last key is there, without a value."""
    value = attributes
    for part in path[:-1]:
        value = item(value, part)
    there = isinstance(value, Mapping | Sequence) and not isinstance(value, str)
    return bool(path) and there and item(value, path[-1]) is None and _holds(value, path[-1])


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(part, int) and part < len(value)


def without_tags(
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
        value = item(value, part)
    return tuple(path)


def as_written(location: tuple[str | int, ...], attributes: Mapping[str, Any]) -> list[str | int]:
    """The path of keys that the user wrote: pydantic appends markers of its own."""
    path = list(location)
    while path and str(path[-1]).endswith(("[key]", "()")):
        path.pop()
    while path and path[-1] in _BRANCHES and set(kinds_at(path[:-1], attributes)) <= _SCALARS:
        path.pop()
    return path


def is_branch(location: tuple[str | int, ...], path: Path) -> bool:
    """Whether pydantic tried one type after another, and each of its complaints is one of many."""
    return len(location) > len(path) and location[len(path)] in _BRANCHES


def kinds_at(path: Path, attributes: Mapping[str, Any], every: bool = False) -> list[Any]:
    """The annotations met along a path of keys, models and containers unwrapped.

    Of several models that `type` tells apart only the one that was asked for, unless `every`.
    """
    current: list[Any] = [Pipeline]
    value: Any = attributes
    for place, part in enumerate(path):
        following: list[Any] = []
        for kind in current:
            if is_section(kind):
                field = kind.model_fields.get(str(part))
                following += _unwrapped(field.annotation) if field else []
            else:
                inner = [arg for arg in typing.get_args(kind) if arg is not Ellipsis]
                following += [a for arg in inner[-1:] for a in _unwrapped(arg)]
        value = item(value, part)
        last = every and place == len(path) - 1
        current = following if last else _chosen(following, value)
    return current


def sections_at(path: Path, attributes: Mapping[str, Any]) -> list[type[BaseModel]]:
    """The models that a mapping at a path may be."""
    return [kind for kind in kinds_at(path, attributes) if is_section(kind)]


def keys_at(path: Path, attributes: Mapping[str, Any]) -> list[str]:
    """The keys that a mapping at a path may have."""
    return [name for model in sections_at(path, attributes) for name in model.model_fields]


def examples_at(path: Path, attributes: Mapping[str, Any]) -> list[Any]:
    """What the field that a path ends in gives as examples; of a list, the list's."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    fields = [kind.model_fields.get(str(path[-1])) for kind in sections_at(path[:-1], attributes)]
    return [example for field in fields if field for example in field.examples or ()]


def is_secret(path: Path, attributes: Mapping[str, Any]) -> bool:
    """Whether what stands at a path may be shown nowhere.

    What is written where a section with a secret belongs may be that secret.
    """
    written = scalar_at(path, attributes)
    if isinstance(written, str) and _CREDENTIALS.search(written):
        return True
    above = (
        kind in _SECRETS
        for depth in range(len(path))
        for kind in kinds_at(path[:depth], attributes, every=True)
    )
    return any(above) or any(map(_holds_secret, kinds_at(path, attributes, every=True)))


def _holds_secret(kind: Any) -> bool:
    if is_section(kind):
        fields = kind.model_fields.values()
        return any(_holds_secret(k) for f in fields for k in _unwrapped(f.annotation))
    inner = [k for arg in typing.get_args(kind) for k in _unwrapped(arg)]
    return kind in _SECRETS or any(k is not kind and _holds_secret(k) for k in inner)


def is_section(kind: Any) -> bool:
    """Whether an annotation is a model."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_union(path: Path, attributes: Mapping[str, Any]) -> bool:
    return sum(map(is_section, kinds_at(path, attributes, every=True))) > 1


def _chosen(kinds: list[Any], value: Any) -> list[Any]:
    tag = value.get("type") if isinstance(value, Mapping) else None
    tagged = [
        kind
        for kind in kinds
        if is_section(kind)
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
