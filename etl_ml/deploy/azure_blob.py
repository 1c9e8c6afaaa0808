"""A container of Azure Blob Storage."""

from __future__ import annotations

from dataclasses import replace

from etl_ml.deploy.publication import Publication
from etl_ml.lake.stored_files import StoredFiles
from etl_ml.lake.stores import StoreSettings, open_store
from etl_ml.spec.deployment import AzureBlobTarget


def azure_blob_target(
    section: AzureBlobTarget, pipeline: str, settings: StoreSettings | None = None
) -> Publication:
    """Publishes to a prefix in a container, which must exist."""
    given = settings or StoreSettings()
    store, prefix = open_store(
        section.url, replace(given, endpoint=section.endpoint or given.endpoint)
    )
    return Publication("azure_blob", StoredFiles(section.url, store, prefix), pipeline)
