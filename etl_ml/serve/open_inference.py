"""The open inference protocol (KServe's V2): tensors by name in, tensors by name out.

References
----------
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from etl_ml.serve.json_rows import most_values, parse_json
from etl_ml.serve.rows import Rows, bounded_count, unreadable
from etl_ml.spec.contract import NUMBERS
from etl_ml.spec.error import bounded, listed

if TYPE_CHECKING:
    from etl_ml.serve.answers import Answers
    from etl_ml.serve.signature import Signature
    from etl_ml.spec.contract import Column

INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
FLOATS = ("FP16", "FP32", "FP64")
_LONGEST_ID = 256


def datatype(column: Column) -> str:
    """The tensor's type of a column; dates are text."""
    return {"integer": "INT64", "float": "FP64", "boolean": "BOOL"}.get(column.type, "BYTES")


def accepted(column: Column) -> tuple[str, ...]:
    """The types that a column's tensor may have."""
    if column.type in NUMBERS:
        return (*INTEGERS, *FLOATS)
    return ("BOOL", *INTEGERS) if column.type == "boolean" else ("BYTES",)


def metadata(name: str, version: str, signature: Signature) -> dict[str, Any]:
    """What `GET /v2/models/{name}` says; -1 is the number of rows."""
    return {
        "name": name,
        "versions": [version],
        "platform": "etl_ml",
        "inputs": [
            {"name": column_name, "datatype": datatype(column), "shape": [-1]}
            for column_name, column in signature.inputs.items()
        ],
        "outputs": [
            {"name": output, "datatype": kind, "shape": [-1, *shape]}
            for output, kind, shape in _outputs(signature)
        ],
    }


class Inference:
    """One request: its rows, and the answer in the shape that it asked for.

    Raises
    ------
    Refused
        The body is no JSON, or no request of this protocol; or it asks for an output that there
        is not.
    """

    def __init__(self, body: bytes, signature: Signature, most: int) -> None:
        document = parse_json(body, most_values(signature, most))
        if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
            raise unreadable("there is no list of `inputs`.", '{"inputs": [{"name": .., ..}]}')
        self._id = document.get("id")
        if self._id is not None and (not isinstance(self._id, str) or len(self._id) > _LONGEST_ID):
            raise unreadable("`id` is no text.", f"text of up to {_LONGEST_ID} characters")
        self._outputs = _wanted(document.get("outputs"), signature)
        self.rows = _rows(document["inputs"], signature, most)

    def response(self, answers: Answers) -> dict[str, Any]:
        """The tensors that were asked for, all by default."""
        count = len(answers.values)
        told: dict[str, Any] = {"model_name": answers.model, "model_version": answers.version}
        if self._id is not None:
            told["id"] = self._id
        data = {"prediction": answers.predictions, "probabilities": None}
        if "probabilities" in self._outputs:
            data["probabilities"] = answers.values.ravel().tolist()
        told["outputs"] = [
            {"name": name, "datatype": kind, "shape": [count, *shape], "data": data[name]}
            for name, kind, shape in _outputs(answers.signature)
            if name in self._outputs
        ]
        return told


def _wanted(asked: Any, signature: Signature) -> list[str]:
    known = [name for name, _, _ in _outputs(signature)]
    if asked is None or asked == []:
        return known
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise unreadable("`outputs` is no list of objects.", '[{"name": "prediction"}]')
    names = [one.get("name") for one in asked]
    for name in names:
        if name not in known:
            raise unreadable(f"there is no output {bounded(name)}.", listed(known))
    return names


def _outputs(signature: Signature) -> list[tuple[str, str, list[int]]]:
    """Name, type and shape behind the rows, of each tensor that comes out."""
    if not signature.classes:
        return [("prediction", "FP64", [])]
    kinds = {type(label) for label in signature.classes}
    names = {bool: "BOOL", int: "INT64", float: "FP64"}
    kind = names.get(next(iter(kinds)), "BYTES") if len(kinds) == 1 else "BYTES"
    return [("prediction", kind, []), ("probabilities", "FP64", [len(signature.classes)])]


def _rows(tensors: list[Any], signature: Signature, most: int) -> Rows:
    columns: dict[str, list[Any]] = {}
    count = -1
    for place, tensor in enumerate(tensors):
        if not isinstance(tensor, dict):
            raise unreadable(f"input {place} is no object.", '{"name": .., "data": [..]}')
        name, kind, shape = (tensor.get(key) for key in ("name", "datatype", "shape"))
        if not isinstance(name, str) or name in columns:
            raise unreadable(f"input {place} has no name, or one that came before.", "a name")
        cells = _flat(tensor.get("data"))
        if cells is None:
            raise unreadable(f"input {bounded(name)} has no `data`.", "a list of cells")
        if count == -1:
            count = bounded_count(len(cells), most)
        if shape not in ([count], [count, 1]) or len(cells) != count:
            raise unreadable(
                f"input {bounded(name)} has another shape, or not as many cells as it says.",
                f"the shape [{count}] and {count} cells",
            )
        column = signature.inputs.get(name)
        if column is not None and kind not in accepted(column):
            raise unreadable(
                f"input {bounded(name)} is {bounded(kind)}.",
                f"one of {listed(accepted(column), 12)}",
            )
        columns[name] = cells
    if not columns:
        raise unreadable("`inputs` is empty.", "a tensor for each column")
    return Rows(columns, count)


def _flat(data: Any) -> list[Any] | None:
    """Cells of a tensor, which may come nested by row."""
    if not isinstance(data, list):
        return None
    if data and all(type(row) is list for row in data):
        nested: Sequence[list[Any]] = data
        return list(chain.from_iterable(nested))
    return data
