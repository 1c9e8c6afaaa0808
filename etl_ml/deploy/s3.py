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
    objects = s3_objects(section.url, settings, region=section.region, endpoint=section.endpoint)
    return Publication("s3", objects, pipeline)


def s3_objects(
    url: str, settings: StoreSettings | None, *, region: str | None, endpoint: str | None
) -> StoredFiles:
    """The objects under `s3://bucket/prefix`; region and endpoint before those of the settings."""
    given = settings or StoreSettings()
    given = replace(given, region=region or given.region, endpoint=endpoint or given.endpoint)
    store, prefix = open_store(url, given)
    return StoredFiles(url, store, prefix)
