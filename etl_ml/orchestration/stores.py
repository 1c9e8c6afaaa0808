"""Credentials from Dagster's own S3 and Azure resources, as plain settings for the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl_ml.lake.stores import StoreSettings


def resource_keys(section: Any) -> set[str]:
    """The resource that a source or destination names, if it names one."""
    name = getattr(section, "resource", None)
    return {name} if name else set()


def settings_of(section: Any, resources: Any) -> StoreSettings | None:
    """What the named resource says; None for the provider's own chain."""
    return None
