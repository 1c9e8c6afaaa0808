"""What a target serves, read by its URL alone: a scoring service needs no lake and no pipeline."""

from __future__ import annotations

from pathlib import Path

from etl_ml.deploy.file import local_objects
from etl_ml.deploy.publication import Publication
from etl_ml.deploy.target import absolute
from etl_ml.lake.stored_files import StoredFiles
from etl_ml.lake.stores import StoreSettings, open_store
from etl_ml.spec.error import EtlMlError

_TYPES = {"s3": "s3", "az": "azure_blob", "gs": "gcs"}


def published(url: str, settings: StoreSettings | None = None) -> Publication:
    """What a pipeline has published, by the URL that `deployment_report.json` gives of a target.

    Parameters
    ----------
    url : a folder, `s3://bucket/prefix/pipeline`, `az://container/…` or `gs://bucket/…`
    settings : of the store; what is not in them comes from the provider's own chain

    Raises
    ------
    EtlMlError
        It is no such URL, or there are no credentials.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme == "file":
        return Publication("file", local_objects(absolute(url, Path.cwd())), "")
    if scheme not in _TYPES:
        raise EtlMlError(
            f"nothing is published at {scheme}://.",
            where=url,
            fix="give a folder, s3://bucket/prefix/pipeline, az://container/prefix/pipeline or "
            "gs://bucket/prefix/pipeline",
        )
    url = url.rstrip("/")
    if scheme == "gs":
        from etl_ml.deploy.gcs import gcs_objects

        endpoint = settings.endpoint if settings else None
        return Publication("gcs", gcs_objects(url, endpoint=endpoint), "")
    store, prefix = open_store(url, settings)
    return Publication(_TYPES[scheme], StoredFiles(url, store, prefix), "")
