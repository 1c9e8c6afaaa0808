"""A package is loaded and asked in a fresh process, as whoever serves it will.

Run as `python -m etl_ml.deploy.verify FOLDER ROWS ANSWERS`, FOLDER a copy of the package: reads
rows (Arrow IPC), writes probabilities (.npy). The fresh process needs no address of the lake and no
credentials, and finds no library but those of the package's requirements.txt, in just their
versions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etl_ml.deploy.package import Package, read_package
from etl_ml.deploy.requirements import confine
from etl_ml.deploy.signing import SIGNING_KEY, TRUSTED_KEYS, trusted_keys
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    import polars as pl

TOLERANCE = 1e-6
_SECONDS = 600


class NotLoadable(EtlMlError):
    """A package that a fresh process could not load or ask."""


class OtherAnswers(EtlMlError):
    """A package that does not answer as it did in training."""


def largest_difference(
    package: Package,
    rows: pl.DataFrame,
    expected: np.ndarray[Any, Any],
    trusted: Collection[str] = (),
) -> float:
    """The largest difference between a package's answers and the expected ones; NaN if one is NaN.

    Of predicted numbers above 1, as a share of the largest.

    Parameters
    ----------
    rows : frame of n rows before preprocessing
    expected : float array (n, k), the probabilities that training gave, or (n,), its numbers
    trusted : the classes and functions of its pipeline that the fresh process may use

    Raises
    ------
    NotLoadable
        The fresh process failed, or took more than ten minutes; says how.
    """
    with tempfile.TemporaryDirectory(prefix="etl_ml_") as folder:
        asked, answered = Path(folder) / "rows.arrow", Path(folder) / "answers.npy"
        copied = Path(folder) / "package"
        rows.write_ipc(asked)
        package.copy(_Files(copied))
        arguments = [str(copied), str(asked), str(answered)]
        command = [sys.executable, "-m", "etl_ml.deploy.verify", *arguments]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
                env=_environment(trusted),
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
                fix="mend what it says, then materialize deployed_model again",
            )
        answers = np.load(answered, allow_pickle=False)
    if answers.shape != expected.shape:
        return float("inf")
    difference = float(np.abs(answers - expected).max(initial=0.0))
    # Of numbers, as a share of the largest one: there is no telling their unit.
    return (
        difference if expected.ndim == 2 else difference / max(1.0, float(np.abs(expected).max()))
    )


def _environment(trusted: Collection[str]) -> dict[str, str]:
    """Of the fresh process: what is trusted is named there, and can be imported; no private key."""
    from etl_ml.train.trusted import VARIABLE

    environment = dict(os.environ)
    if environment.pop(SIGNING_KEY, None):
        environment[TRUSTED_KEYS] = ",".join(sorted(trusted_keys()))
    if trusted:
        named = [*filter(None, [environment.get(VARIABLE)]), *sorted(trusted)]
        path = os.pathsep.join(filter(None, sys.path))
        environment |= {VARIABLE: ",".join(named), "PYTHONPATH": path}
    return environment


class _Files:
    """The package in a folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.url = str(path)
        self._path = path

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        file = self._path / name
        return file.read_bytes() if file.is_file() else None

    def put(self, name: str, data: bytes) -> None:
        self._path.mkdir(exist_ok=True)
        (self._path / name).write_bytes(data)


def _main(folder: str, rows: str, answers: str) -> None:
    package = read_package(_Files(Path(folder)))
    confine(package.read("requirements.txt").decode())
    import polars as pl

    np.save(answers, package.model.answers(pl.read_ipc(rows)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
