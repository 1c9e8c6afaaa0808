"""A folder, here or on a share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl_ml.deploy.publication import Publication
from etl_ml.deploy.target import TargetError, absolute
from etl_ml.lake.stored_files import StoredFiles
from etl_ml.spec.deployment import FileTarget
from etl_ml.spec.error import bounded


def file_target(section: FileTarget, pipeline: str, base: Path) -> Publication:
    """Publishes to a folder, which is made if it is missing."""
    return Publication("file", local_objects(absolute(section.url, base), make=True), pipeline)


def local_objects(root: Path, *, make: bool = False) -> StoredFiles:
    """The files below a folder.

    Raises
    ------
    TargetError
        There is no such folder, or it cannot be made.
    """
    from obstore.exceptions import BaseError
    from obstore.store import LocalStore

    try:
        return _LocalFiles(str(root), LocalStore(root, mkdir=make), folder=root)
    except (BaseError, OSError) as error:
        what = f"file target: the folder cannot be {'made' if make else 'read'}"
        raise _refused(what, error, root) from None


class _LocalFiles(StoredFiles):
    """Says of a folder's errors which file they are of."""

    @contextmanager
    def _asking(self, what: str, name: str) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            with super()._asking(what, name):
                yield
        except AlreadyExistsError:
            raise
        except (BaseError, OSError) as error:
            raise _refused(f"{name} cannot be {what}", error, self.url) from None


def _refused(what: str, error: Exception, where: Path | str) -> TargetError:
    return TargetError(
        f"{what}.",
        seen=bounded(next(iter(str(error).strip().splitlines()), ""), 200),
        where=str(where),
        fix="correct the path, or give this user the right to read and write there",
    )
