"""A bucket of S3, or of what is compatible with it."""

from __future__ import annotations

from dataclasses import replace

from etl_ml.deploy.publication import Publication
from etl_ml.lake.stored_files import StoredFiles
from etl_ml.lake.stores import StoreSettings, open_store
from etl_ml.spec.deployment import S3Target


def s3_target(
    section: S3Target, pipeline: str, settings: StoreSettings | None = None
) -> Publication:
    """Publishes to a prefix in a bucket, which must exist."""
    given = settings or StoreSettings()
    store, prefix = open_store(
        section.url,
        replace(
            given,
            endpoint=section.endpoint or given.endpoint,
            region=section.region or given.region,
        ),
    )
    return Publication("s3", StoredFiles(section.url, store, prefix), pipeline)
