"""What a model said, as labels, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from etl_ml.serve.signature import Signature


@dataclass(frozen=True)
class Answers:
    """The answers to n rows.

    Attributes
    ----------
    model, version : who said it
    values : float64 array (n, k), a probability for each class, or (n,), the predicted numbers
    """

    model: str
    version: str
    signature: Signature
    values: np.ndarray[Any, Any]

    @cached_property
    def predictions(self) -> list[Any]:
        """A label, or a number, for each row."""
        classes = self.signature.classes
        if not classes:
            numbers: list[float] = self.values.tolist()
            return numbers
        if len(classes) == 2:
            positive = (self.values[:, 1] >= self.signature.threshold).tolist()
            return [classes[place] for place in positive]
        return [classes[place] for place in self.values.argmax(axis=1).tolist()]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = {"predictions": self.predictions}
        if self.signature.classes:
            told["probabilities"] = self.values.tolist()
            told["classes"] = self.signature.classes
        return told | {"model": self.model, "version": self.version}

    def csv(self) -> bytes:
        """As CSV: the prediction, then the probability of each class; one line a row."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        classes = self.signature.classes
        writer.writerow(["prediction", *(f"probability_{label}" for label in classes)])
        if classes:
            values = self.values.tolist()
            writer.writerows(
                [label, *each] for label, each in zip(self.predictions, values, strict=True)
            )
        else:
            writer.writerows([number] for number in self.predictions)
        return out.getvalue().encode()
