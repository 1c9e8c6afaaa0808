"""What a cloud's endpoint does with a model: load the files it was given, and answer rows."""

from __future__ import annotations

import json
from collections.abc import Mapping

import polars as pl

from etl_ml.deploy.package import Package, read_package


class Files:
    """The files of a package, by name."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.url, self._files = "files", files

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        return self._files.get(name)


def opened(files: Mapping[str, bytes]) -> Package:
    """The package that these files are."""
    return read_package(Files(files))


def answer(files: Mapping[str, bytes], body: bytes) -> bytes:
    """As the scoring service answers `POST /invocations`."""
    package = opened(files)
    inputs = json.loads(package.read("signature.json"))["inputs"]
    dates = [i["name"] for i in inputs if i["type"] == "date"]
    rows = pl.DataFrame(json.loads(body)["rows"]).with_columns(pl.col(dates).str.to_date())
    said = package.model.predict_proba(rows).tolist()
    return json.dumps({"probabilities": said, "version": package.version}).encode()
