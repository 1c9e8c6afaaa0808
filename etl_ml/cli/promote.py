"""`etl-ml promote`, `rollback` and `keys`: who is champion, decided by a person."""

from __future__ import annotations

import getpass

from etl_ml.cli.materialize import find_project
from etl_ml.deploy.package import UnreadablePackage, open_package
from etl_ml.deploy.registry import before, champion
from etl_ml.deploy.signing import SIGNING_KEY, TRUSTED_KEYS, new_keys
from etl_ml.lake import version_name


def promote_version(pipeline: str, version: str, reason: str) -> None:
    """Materialize deployed_model so that a version becomes champion.

    Raises
    ------
    EtlMlError
        There is no package of that version, or the run failed; the champion stays.
    """
    project = find_project()
    version = version_name(version)
    try:
        open_package(project.lake(), pipeline, version)  # before Dagster is started
    except UnreadablePackage as error:
        error.fix = f"restore it, or promote another one; `etl-ml models {pipeline}` shows them"
        raise
    config = {"promote": version, "reason": reason, "by": getpass.getuser()}
    project.materialize(pipeline, "deployed_model", config, f"{version} was not promoted.")
    now = champion(project.lake(), pipeline)
    print(f"\n{pipeline}: the champion is version {now.version if now else 'none'}.")


def roll_back(pipeline: str, reason: str) -> None:
    """Promote the version that was champion before."""
    version = before(find_project().lake(), pipeline)
    promote_version(pipeline, version, reason or "rolled back")


def show_keys() -> None:
    """A new pair of keys, as lines for the environment."""
    private, public = new_keys()
    print(
        f"# Who trains and deploys; keep it secret:\n{SIGNING_KEY}={private}\n"
        f"# Who serves:\n{TRUSTED_KEYS}={public}"
    )
