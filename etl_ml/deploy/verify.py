"""A package is loaded and asked in a fresh process, as whoever serves it will.

Run as `python -m etl_ml.deploy.verify LAKE PIPELINE VERSION ROWS ANSWERS`: reads rows (Arrow IPC),
writes probabilities (.npy).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etl_ml.deploy.package import Package
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    import polars as pl

TOLERANCE = 1e-6
_SECONDS = 600


class NotLoadable(EtlMlError):
    """A package that a fresh process could not load or ask."""


def largest_difference(
    package: Package, rows: pl.DataFrame, expected: np.ndarray[Any, Any]
) -> float:
    """The largest difference between a package's answers and the expected ones; NaN if one is NaN.

    Parameters
    ----------
    rows : frame of n rows before preprocessing
    expected : float array (n, k), the probabilities that training gave

    Raises
    ------
    NotLoadable
        The fresh process failed, or took more than ten minutes; says how.
    """
    with tempfile.TemporaryDirectory(prefix="etl_ml_") as folder:
        asked, answered = Path(folder) / "rows.arrow", Path(folder) / "answers.npy"
        rows.write_ipc(asked)
        arguments = [package.lake.url, package.pipeline, package.version, str(asked), str(answered)]
        command = [sys.executable, "-m", "etl_ml.deploy.verify", *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise NotLoadable(
                f"{package.pipeline} {package.version}: a fresh process gave no answer "
                f"in {_SECONDS} s.",
                where=package.url,
                fix="run it again when the machine is less busy, or train a smaller model",
            ) from None
        if done.returncode or not answered.exists():
            said = done.stderr.strip().splitlines()[-4:]
            raise NotLoadable(
                f"{package.pipeline} {package.version}: a fresh process could not load it.",
                seen=" / ".join(line[:200] for line in said) or f"exit code {done.returncode}",
                where=package.url,
                fix="run the command again by hand to see all of it: " + " ".join(command[1:6]),
            )
        answers = np.load(answered, allow_pickle=False)
    if answers.shape != expected.shape:
        return float("inf")
    return float(np.abs(answers - expected).max(initial=0.0))


def _main(url: str, pipeline: str, version: str, rows: str, answers: str) -> None:
    import polars as pl

    from etl_ml.deploy.package import open_package
    from etl_ml.lake import open_lake

    package = open_package(open_lake(url), pipeline, version)
    np.save(answers, package.model.predict_proba(pl.read_ipc(rows)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
