"""`{{ env.NAME }}` in a defs.yaml, filled in: always with text, and never half."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from etl_ml.spec.parse import InvalidPipeline

_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_VARIABLE = re.compile(r"\benv(?:\.(\w+)|\(\s*['\"](\w+)['\"]\s*\)|\[\s*['\"](\w+)['\"]\s*\])")


class Environment:
    """The process's environment variables as `env.NAME`, `env['NAME']` and `env('NAME')`."""

    def __getattr__(self, name: str) -> str | None:
        return os.environ.get(name)

    def __getitem__(self, name: str) -> str | None:
        return os.environ.get(name)

    def __call__(self, name: str, default: str | None = None) -> str | None:
        return os.environ.get(name, default)


def rendered(value: Any, scope: Mapping[str, Any], *, file: str, key: str = "") -> Any:
    """Attributes with their templates filled in.

    Parameters
    ----------
    scope : what templates may name, `env` among it
    file : the path shown in errors
    key : of the value, likewise

    Raises
    ------
    InvalidPipeline
        A variable is not set, and the template has no default for it.
    """
    if isinstance(value, Mapping):
        return {
            name: rendered(item, scope, file=file, key=f"{key}.{name}".lstrip("."))
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [rendered(v, scope, file=file, key=f"{key}.{i}") for i, v in enumerate(value)]
    if not isinstance(value, str) or "{{" not in value:
        return value
    for name in needed(value):
        if name not in os.environ:
            raise InvalidPipeline(
                f"{key}: the environment variable {name} is not set.",
                where=file,
                fix=f"set {name}, or give a default: {{{{ env.{name} or '…' }}}}",
            )
    # Not Dagster's own resolution: it turns text such as "007" or "[a]" into numbers and lists.
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined).from_string(value).render(**scope)


def needed(text: str) -> Iterator[str]:
    """The environment variables that a text's templates cannot do without."""
    for template in _TEMPLATE.findall(text):
        if " or " not in template and "default" not in template:
            for match in _VARIABLE.findall(template):
                yield from filter(None, match)
