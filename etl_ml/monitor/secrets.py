"""What a pipeline's YAML keeps secret: nothing that is sent may hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from etl_ml.spec.source import public

_SHORTEST = 4


def secrets_of(section: BaseModel) -> tuple[str, ...]:
    """Every secret text in a section, the longest first; of URLs also their passwords and paths."""
    found = {part for secret in _secrets(section) for part in _parts(secret.get_secret_value())}
    return tuple(sorted((t for t in found if len(t) >= _SHORTEST), key=lambda t: (-len(t), t)))


def _secrets(value: object) -> Iterator[SecretStr]:
    if isinstance(value, SecretStr):
        yield value
    elif isinstance(value, BaseModel):
        for _, item in value:
            yield from _secrets(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from _secrets(item)


def _parts(text: str) -> Iterator[str]:
    if "://" not in text:
        yield text
        return
    if public(text) != text:  # a server's bare address is no secret
        yield text
    try:
        parts = urlsplit(text)
    except ValueError:
        return
    if parts.password:
        yield from (parts.password, unquote(parts.password))
    if parts.scheme in ("http", "https"):  # a webhook's path is its password
        yield from (parts.path, parts.query)
