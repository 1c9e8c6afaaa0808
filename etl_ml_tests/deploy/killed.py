"""Deployments that die: `python -m etl_ml_tests.deploy.killed LAKE COPIES`.

Deploys the second model of a lake once for each of its writes, in copies 1, 2, …, and is killed
just before that write. The last copy is of a deployment that ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from etl_ml.deploy import open_target
from etl_ml.deploy.requirements import _provided
from etl_ml.lake import open_lake
from etl_ml.lake.stored_files import StoredFiles
from etl_ml_tests.conftest import make_pipeline
from etl_ml_tests.deploy.models import answering, run, second


def target_of(home: Path) -> Any:
    """The target beside a lake."""
    section = {"type": "file", "url": str(home / "target")}
    (target,) = make_pipeline(deployment={"targets": [section]}).deployment.targets
    return open_target(target, "loans")


class _Patch:
    setattr = staticmethod(setattr)


def _die_before(number: int) -> None:
    left = [number]

    def counted(write: Any) -> Any:
        def written(files: StoredFiles, name: str, data: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            write(files, name, data)

        return written

    for name in ("put", "create"):
        setattr(StoredFiles, name, counted(getattr(StoredFiles, name)))


def _main(settled: Path, copies: Path) -> None:
    _provided()  # once for all
    number = 0
    while True:
        number += 1
        home = copies / str(number)
        shutil.copytree(settled, home)
        # Forked before anything has started a thread: a process costs nothing then.
        child = os.fork()
        if child == 0:
            _die_before(number)
            answering(_Patch)  # type: ignore[arg-type]
            lake = open_lake(home / "lake")
            done = run(lake, second(lake), targets=[target_of(home)])
            os._exit(0 if done.report else 1)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended != -signal.SIGKILL:
            sys.exit(ended)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
