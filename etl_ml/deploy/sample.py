"""What a service is asked over its own interface, once it has loaded a package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from etl_ml.deploy.package import Package
from etl_ml.deploy.verify import TOLERANCE, OtherAnswers
from etl_ml.lake.documents import dump_json
from etl_ml.spec.error import bounded


@dataclass(frozen=True)
class Sample:
    """The sample rows of a package, and the answers that they must get.

    Attributes
    ----------
    version : of the package, which the service names in its answer
    expected : float array (n, k), the probabilities of the classes, or (n,), the numbers
    tolerance : how far an answer may be off; a service may score in float32, by ONNX
    """

    version: str
    rows: list[dict[str, Any]]
    expected: np.ndarray[Any, Any]
    tolerance: float

    @property
    def request(self) -> bytes:
        """The body of `POST /invocations`, JSON."""
        return dump_json({"rows": self.rows})

    def check(self, answer: bytes, *, where: str) -> float:
        """The largest difference between a service's answers and the expected ones.

        Parameters
        ----------
        answer : the body that came back
        where : the service, for errors

        Raises
        ------
        OtherAnswers
            It is no answer, another version's, or too far off.
        """
        said = "probabilities" if self.expected.ndim == 2 else "predictions"
        try:
            document = json.loads(answer)
            version = str(document["version"])
            found = np.asarray(document[said], np.float64)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise OtherAnswers(
                f"the answer to the sample rows is not that of etl_ml's service: no {said} with "
                "a version.",
                seen=bounded(answer[:100]),
                where=where,
                fix="deploy an image that runs `etl-ml serve`, or set verify: false",
            ) from None
        if version != self.version:
            raise OtherAnswers(
                f"version {self.version} was to answer the sample rows, and {version} did.",
                where=where,
                fix="see that nothing else changes this endpoint, then deploy again",
            )
        same = found.shape == self.expected.shape
        off = float(np.abs(found - self.expected).max(initial=0.0)) if same else float("inf")
        if not off <= self.tolerance:  # NaN is no answer
            raise OtherAnswers(
                f"the answers to the sample rows differ from training's by up to {off:.2g}; "
                f"{self.tolerance:g} is allowed.",
                where=where,
                fix="see that the image has the versions of the package's requirements.txt",
            )
        return off


def sample_of(package: Package) -> Sample | None:
    """The sample that a package carries; None where a feature is sensitive, and it has none."""
    document = json.loads(package.read("signature.json"))
    if document["sample"] is None:
        return None
    sample = document["sample"]
    expected = np.asarray(sample.get("probabilities", sample.get("predictions")), np.float64)
    scale = 1.0 if expected.ndim == 2 else max(1.0, float(np.abs(expected).max()))
    tolerance = TOLERANCE * scale
    if "onnx_report.json" in package.files:
        onnx = json.loads(package.read("onnx_report.json"))
        tolerance = max(tolerance, float(onnx["tolerance"] or 0.0))
    return Sample(package.version, sample["rows"], expected, tolerance)
