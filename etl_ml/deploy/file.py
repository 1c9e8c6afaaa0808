"""A folder, here or on a share."""

from __future__ import annotations

from pathlib import Path

from etl_ml.deploy.publication import Publication
from etl_ml.deploy.target import absolute
from etl_ml.lake.stored_files import StoredFiles
from etl_ml.spec.deployment import FileTarget


def file_target(section: FileTarget, pipeline: str, base: Path) -> Publication:
    """Publishes to a folder, which is made if it is missing."""
    return Publication("file", local_objects(absolute(section.url, base)), pipeline)


def local_objects(root: Path) -> StoredFiles:
    """The files below a folder."""
    from obstore.store import LocalStore

    return StoredFiles(str(root), LocalStore(root, mkdir=True), folder=root)
