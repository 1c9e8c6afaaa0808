"""From a package to answers: loaded once, and asked what it must answer before it serves."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from etl_ml.serve.answers import Answers
from etl_ml.serve.checked import Checker
from etl_ml.serve.compiled import Compiled
from etl_ml.serve.rows import Rows, choose
from etl_ml.serve.runtime import Onnx, Runtime, Skops
from etl_ml.serve.signature import Sample, Signature, read_signature
from etl_ml.serve.vectors import Vectors
from etl_ml.spec.error import EtlMlError, bounded
from etl_ml.transform.learned import Learned, read_document

if TYPE_CHECKING:
    from etl_ml.deploy import Package

Array = np.ndarray[Any, Any]

TOLERANCE = 1e-6
INLINE_ROWS = 64
"""Rows up to which an answer is quicker than handing them to a thread."""
# Rows up to which plain Python is quicker than vectors, and than reading text by columns.
_FEW, _FEW_TEXTS = 8, 256
_ONNX_TOLERANCE = 1e-4
# On the event loop nothing takes longer than this; what does goes to a thread.
_INLINE_SECONDS = 0.002


class UnfitPackage(EtlMlError):
    """A package that cannot be served: damaged, of another version, or with other answers."""


class Scorer:
    """One version of a model, ready to be asked; it may be asked from several threads.

    Parameters
    ----------
    package : read and checked
    unknown : whether a column that neither the model nor its contract knows is refused

    Attributes
    ----------
    signature : what it takes and gives
    runtime : `onnx` or `skops`
    difference : how far its answers to the sample rows are from those in training; None where the
        package has no sample, because a column is sensitive
    inline : whether a few rows are answered quickly enough for an event loop

    Raises
    ------
    UnfitPackage, UnreadablePackage, UntrustedModel
        It cannot be loaded, or its answers to the sample rows are not those of training.
    """

    def __init__(self, package: Package, *, unknown: Literal["fail", "drop"] = "fail") -> None:
        self.package, self._unknown = package, unknown
        self.model, self.version = package.pipeline, package.version
        self.signature = _signature(package)
        self._learned = _learned(package)
        contract = self.signature.inputs, self.signature.null_values
        self._checker = Checker(*contract)
        covers = Compiled.covers(self.signature.inputs, self._learned)
        self._compiled = Compiled(*contract, self._learned) if covers else None
        self._vectors = (
            Vectors(self.signature.inputs, self._learned, self._compiled.cells)
            if self._compiled is not None
            else None
        )
        self._runtime = _runtime(package)
        self.runtime = self._runtime.name
        self.difference = self._asked(self.signature.sample)
        self.inline = self._is_quick()

    def __str__(self) -> str:
        said = f"{self.model} {self.version} by {self.runtime}"
        if self.difference is None:
            return f"{said}, which has no sample to be asked"
        return f"{said}, answers within {self.difference:.1g} of training's"

    def quick(self, rows: Rows) -> Answers | None:
        """The answers to a few rows whose cells are plainly right; None where they are not.

        Raises
        ------
        Refused
            A column is missing or unknown.
        """
        if rows.count > INLINE_ROWS:
            return None
        features = self._plain_features(choose(rows, self.signature, self._unknown))
        return None if features is None else self._answers(features)

    def score(self, rows: Rows) -> Answers:
        """The answers to any number of rows.

        Raises
        ------
        Refused
            A column is missing or unknown, or a cell breaks a rule; says which.
        """
        chosen = choose(rows, self.signature, self._unknown)
        features = self._plain_features(chosen)
        if features is None:
            frame = self._checker.frame(chosen)
            plain = self._compiled is not None
            features = self._learned.features(frame) if plain else self._learned.transform(frame)
        return self._answers(features)

    def _plain_features(self, rows: Rows) -> Array | None:
        """Without a dataframe, where all cells are plainly right."""
        if self._compiled is None or self._vectors is None:
            return None
        if rows.count <= (_FEW_TEXTS if rows.text else _FEW):
            return self._compiled.features(rows)
        return self._vectors.features(rows)

    def _answers(self, features: Array) -> Answers:
        values = self._runtime.answers(features)
        return Answers(self.model, self.version, self.signature, values)

    def _asked(self, sample: Sample | None) -> float | None:
        """The largest difference from what training answered, one by one and all at once."""
        if sample is None:
            return None
        expected = np.asarray(sample.answers, np.float64)
        try:
            rows = _rows(sample.rows)
            frame = self._checker.frame(choose(rows, self.signature, "fail"))
            together = self._answers(self._learned.transform(frame)).values
            each = [self.score(_rows([row])).values for row in sample.rows]
        except EtlMlError as error:
            raise self._unfit(f"it does not answer its own sample rows: {error.what}") from error
        alone = np.concatenate(each)
        if together.shape != expected.shape or alone.shape != expected.shape:
            raise self._unfit(
                f"it answers with shape {together.shape}, and training did with {expected.shape}"
            )
        found = float(np.abs([together - expected, alone - expected]).max(initial=0.0))
        allowed = self._tolerance(expected)
        if not found <= allowed:  # NaN is no answer
            raise self._unfit(
                f"its answers differ from training's by up to {found:.2g}; {allowed:.2g} is allowed"
            )
        return found

    def _tolerance(self, expected: Array) -> float:
        if self._runtime.name == "onnx":
            report = _document(self.package, "onnx_report.json") or {}
            return float(report.get("tolerance") or _ONNX_TOLERANCE)
        # Of numbers, as a share of the largest one: there is no telling their unit.
        largest = 1.0 if expected.ndim == 2 else max(1.0, float(np.abs(expected).max(initial=0.0)))
        return TOLERANCE * largest

    def _is_quick(self) -> bool:
        if self._compiled is None:
            return False
        features = np.zeros((INLINE_ROWS, len(self._learned.feature_names)), np.float32)
        self._runtime.answers(features)
        start = time.perf_counter()
        self._runtime.answers(features)
        return time.perf_counter() - start < _INLINE_SECONDS

    def _unfit(self, why: str) -> UnfitPackage:
        return _unfit(self.package, why)


def _rows(records: list[dict[str, Any]]) -> Rows:
    return Rows({name: [record[name] for record in records] for name in records[0]}, len(records))


def _signature(package: Package) -> Signature:
    try:
        return read_signature(package.read("signature.json"))
    except ValueError as error:
        raise _unfit(
            package, f"its signature.json is unsound: {bounded(str(error), 200)}"
        ) from None


def _learned(package: Package) -> Learned:
    document = _document(package, "preprocessor.json")
    if document is None:
        return package.model.preprocessor.fitted
    try:
        return read_document(document)
    except ValueError as error:
        raise _unfit(
            package, f"its preprocessor.json is unsound: {bounded(str(error), 200)}"
        ) from None


def _runtime(package: Package) -> Runtime:
    if "model.onnx" not in package.files:
        return Skops(package)
    model = package.read("model.onnx")
    try:
        return Onnx(model)
    except Exception as error:
        # ONNX Runtime has an exception of its own for each thing that may be wrong with a file.
        if isinstance(error, EtlMlError):
            raise
        raise _unfit(package, f"its model.onnx is unsound: {bounded(str(error), 200)}") from error


def _document(package: Package, name: str) -> Mapping[str, Any] | None:
    if name not in package.files:
        return None
    try:
        found = json.loads(package.read(name))
    except ValueError as error:
        raise _unfit(package, f"its {name} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise _unfit(package, f"its {name} is no object")
    return found


def _unfit(package: Package, why: str) -> UnfitPackage:
    return UnfitPackage(
        f"{package.pipeline} {package.version} cannot be served: {why}.",
        where=package.url,
        fix="materialize deployed_model again",
    )
