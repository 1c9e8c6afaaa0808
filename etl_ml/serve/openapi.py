"""The service's OpenAPI, with the model's own columns and rows of its sample."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Any

from etl_ml.serve.json_rows import RECORDS, SPLIT
from etl_ml.serve.open_inference import accepted, datatype
from etl_ml.serve.service import CSV, JSON, PARQUET
from etl_ml.spec.contract import MOMENTS, TEXTS, Column

if TYPE_CHECKING:
    from fastapi import FastAPI

    from etl_ml.serve.scorer import Scorer
    from etl_ml.serve.settings import Settings
    from etl_ml.serve.signature import Signature

Schema = dict[str, Any]

_SHOWN = 2
_LARGEST = 1.7976931348623157e308
_REFUSALS = {
    400: "The body is not in the format that it says.",
    408: "The request did not arrive in time.",
    413: "The body is too large.",
    415: "The body's type is not read.",
    422: "A column is missing or unknown, a cell breaks the contract, or rows are too many.",
    503: "Too much is being worked on, or an answer took too long; try again.",
}
_UNKNOWN = {404: "There is no such model here."}
_TOKEN = {401: "The token is missing or wrong."}


def operation(kind: str, path: str) -> dict[str, Any]:
    """FastAPI's arguments for a route that scores: `score` or `infer`."""
    if kind == "infer":
        body = {JSON: {"schema": _ref("InferenceRequest")}}
        refusals = _errors(_REFUSALS | _UNKNOWN)
        answer = {JSON: {"schema": _ref("InferenceResponse")}}
    else:
        body = {
            JSON: {"schema": _ref("Rows")},
            CSV: {"schema": {"type": "string"}},
            PARQUET: {},
        }
        refusals = _errors(_REFUSALS)
        answer = {JSON: {"schema": _ref("Answers")}, CSV: {"schema": {"type": "string"}}}
    version = {"model-version": {"schema": {"type": "string"}, "required": True}}
    return {
        "operation_id": f"{kind}{path.replace('/', '_')}",
        "responses": {
            200: {"description": "The answers.", "content": answer, "headers": version},
            **refusals,
        },
        "openapi_extra": {"requestBody": {"required": True, "content": body}},
    }


def answered(name: str | None, *statuses: int) -> dict[str, Any]:
    """FastAPI's arguments for a route that tells a document; None for text."""
    schema = {"type": "string"} if name is None else _ref(name)
    kind = "text/plain" if name is None else JSON
    answer = {"description": "As it is now.", "content": {kind: {"schema": schema}}}
    told = {status: text for status, text in _UNKNOWN.items() if status in statuses}
    return {"responses": {200: answer, **_errors(told)}}


def described(app: FastAPI, scorer: Scorer, settings: Settings) -> dict[str, Any]:
    """The document, for the model that answers now."""
    from fastapi.openapi.utils import get_openapi

    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    document["info"]["description"] = f"{scorer.model}, version {scorer.version}."
    components = _components(scorer, settings)
    document["components"] = {"schemas": components}
    for path, operations in document["paths"].items():
        for each in operations.values():
            _complete(each, path, scorer, settings)
    if settings.token is not None:
        scheme = {"type": "http", "scheme": "bearer"}
        document["components"]["securitySchemes"] = {"token": scheme}
    return document


def _complete(operation: Schema, path: str, scorer: Scorer, settings: Settings) -> None:
    """With what depends on the model: names, examples, the token."""
    from etl_ml.serve.guard import OPEN

    # FastAPI's own, for parameters that it would check: here every path is text.
    if "requestBody" not in operation:
        operation["responses"].pop("422", None)
    for parameter in operation.get("parameters", []):
        known = scorer.model if parameter["name"] == "model" else scorer.version
        parameter["example"] = known
    if settings.token is not None and path not in OPEN:
        operation["security"] = [{"token": []}]
        operation["responses"] |= {str(k): v for k, v in _errors(_TOKEN).items()}
    content = operation.get("requestBody", {}).get("content", {})
    sample = scorer.signature.sample
    if sample is None or not content:
        return
    rows = sample.rows[:_SHOWN]
    if CSV not in content:
        content[JSON]["example"] = _inference_example(rows, scorer.signature)
        return
    names = list(scorer.signature.inputs)
    cells = [[row[name] for name in names] for row in rows]
    content[JSON]["examples"] = {
        "records": {"value": {"rows": rows}},
        "split": {"value": {"columns": names, "data": cells}},
        "columns": {"value": {name: [row[name] for row in rows] for name in names}},
    }
    header, *lines = _csv_lines([names, *cells])
    content[CSV]["example"] = "".join(f"{line}\n" for line in (header, *lines))
    # JSON schema has no words for what a table must keep: of all that is taken, these rows.
    rows_again = "|".join(map(_escaped, lines))
    content[CSV]["schema"] = {
        "type": "string",
        "pattern": f"^{_escaped(header)}(\n({rows_again}))+\n?$",
        "description": "Rows like these, with or without the header.",
    }


def _inference_example(rows: list[dict[str, Any]], signature: Signature) -> Schema:
    return {
        "inputs": [
            {
                "name": name,
                "datatype": datatype(column),
                "shape": [len(rows)],
                "data": [row[name] for row in rows],
            }
            for name, column in signature.inputs.items()
        ]
    }


def _components(scorer: Scorer, settings: Settings) -> dict[str, Schema]:
    signature = scorer.signature
    label = _label_schema(signature)
    text, whole = {"type": "string"}, {"type": "integer"}
    answers = {"predictions": _list(label), "model": text, "version": text}
    if signature.classes:
        shares = _list({"type": "number"})
        answers |= {"probabilities": _list(shares), "classes": _list(label)}
    refused = {
        **dict.fromkeys(("column", "value", "expected", "nearest"), text),
        "row": {"type": "integer", "description": "From 0."},
    }
    tensor = {"name": text, "datatype": text, "shape": _list(whole), "data": _list({})}
    return {
        "Row": _row_schema(signature, settings),
        "Rows": _rows_schema(signature, settings),
        "Answers": _object(answers),
        "Error": _object({"error": text}, refused),
        "Live": _object({"live": {"const": True}}),
        "Ready": _object({"ready": {"const": True}}),
        "Version": _object(
            dict.fromkeys(("model", "version", "etl_ml"), text)
            | {"runtime": {"enum": ["onnx", "skops"]}},
            dict.fromkeys(("signed_by", "shadow"), _nullable(text)),
        ),
        "Signature": _object({"model": text, "version": text, "inputs": _list({}), "output": {}}),
        "ServerMetadata": _object({"name": text, "version": text, "extensions": _list(text)}),
        "ModelReady": _object({"name": text, "ready": {"const": True}}),
        "ModelMetadata": _object(
            {"name": text, "versions": _list(text), "platform": text}
            | dict.fromkeys(("inputs", "outputs"), _list({"type": "object"}))
        ),
        "InferenceRequest": _inference_schema(signature, settings),
        "InferenceResponse": _object(
            {"model_name": text, "model_version": text, "outputs": _list(_object(tensor))},
            {"id": text},
        ),
    }


def _row_schema(signature: Signature, settings: Settings) -> Schema:
    properties = {name: _cell_schema(name, signature) for name in signature.inputs}
    others: Schema = {name: {} for name in sorted(signature.ignored)}
    return {
        "type": "object",
        "properties": properties | others,
        "required": list(properties),
        "additionalProperties": settings.unknown_columns == "drop",
    }


def _rows_schema(signature: Signature, settings: Settings) -> Schema:
    """Records, split and columnar."""
    cells = {name: _cell_schema(name, signature) for name in signature.inputs}
    size = {"minItems": 1, "maxItems": settings.max_rows}
    records = {"type": "array", "items": _ref("Row"), **size}
    row = {
        "type": "array",
        "prefixItems": list(cells.values()),
        "minItems": len(cells),
        "maxItems": len(cells),
    }
    data = {"type": "array", "items": row, **size}
    split = _object({"columns": {"const": list(cells)}, "data": data})
    # JSON schema has no word for lists of equal length; here all have one cell.
    one = {"type": "array", "minItems": 1, "maxItems": 1}
    columnar = _object({name: {**one, "items": cell} for name, cell in cells.items()})
    columnar["description"] = "A list of cells a column, all of one length."
    forms = [records, split, columnar]
    forms += [_object({name: records}) for name in RECORDS]
    forms += [_object({name: split}) for name in SPLIT]
    return {"anyOf": forms}


def _cell_schema(name: str, signature: Signature) -> Schema:
    column, nulls = signature.inputs[name], sorted({"", *signature.null_values})
    schema = _value_schema(column, nulls)
    if not column.nullable:
        return schema
    texts = column.type in TEXTS or column.type in MOMENTS
    return {"anyOf": [schema, {"type": "null"}, *([{"enum": nulls}] if texts else [])]}


def _value_schema(column: Column, nulls: list[str]) -> Schema:
    shown = not column.sensitive
    if column.allowed is not None and shown and column.type not in MOMENTS:
        return {"enum": list(column.allowed)}
    if column.type == "boolean":
        return {"enum": [True, False, 0, 1]}
    if column.type in MOMENTS:
        moment = {"type": "string", "format": "date" if column.type == "date" else "date-time"}
        limits = {key: str(getattr(column, key)) for key in ("min", "max") if getattr(column, key)}
        if limits and shown:
            moment["description"] = ", ".join(f"{key} {value}" for key, value in limits.items())
        return moment
    if column.type in TEXTS:
        schema: Schema = {"type": "string"}
        rules: list[Schema] = [{"pattern": column.pattern}] if column.pattern is not None else []
        if column.max_length is not None:
            schema["maxLength"] = column.max_length
        if not column.nullable:
            rules += [{"pattern": r"\S"}, {"not": {"enum": nulls}}]
        return schema | ({"allOf": rules} if rules else {})
    whole = column.type == "integer"
    least, most = (-(2**63), 2**63 - 1) if whole else (-_LARGEST, _LARGEST)
    return {
        "type": "integer" if whole else "number",
        "minimum": column.min if column.min is not None and shown else least,
        "maximum": column.max if column.max is not None and shown else most,
    }


def _inference_schema(signature: Signature, settings: Settings) -> Schema:
    """Tensors of one row, by column; of several rows all have as many cells."""
    one = {"type": "array", "minItems": 1, "maxItems": 1}
    inputs = []
    for name, column in signature.inputs.items():
        inputs.append(
            _object(
                {
                    "name": {"const": name},
                    "datatype": {"enum": list(accepted(column))},
                    "shape": {"enum": [[1], [1, 1]]},
                    "data": {**one, "items": _cell_schema(name, signature)},
                },
                others=True,
            )
        )
    names = ["prediction", *(["probabilities"] if signature.classes else [])]
    tensors = {
        "type": "array",
        "prefixItems": inputs,
        "minItems": len(inputs),
        "maxItems": len(inputs),
    }
    outputs = _nullable(_list(_object({"name": {"enum": names}}, others=True)))
    optional = {"id": _nullable({"type": "string", "maxLength": 256}), "outputs": outputs}
    return _object({"inputs": tensors}, optional, others=True)


def _label_schema(signature: Signature) -> Schema:
    return {"enum": list(signature.classes)} if signature.classes else {"type": "number"}


def _errors(told: dict[int, str]) -> dict[int, Any]:
    content = {JSON: {"schema": _ref("Error")}}
    return {status: {"description": text, "content": content} for status, text in told.items()}


def _object(
    required: dict[str, Any], optional: dict[str, Any] | None = None, *, others: bool = False
) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": others,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _csv_lines(rows: list[list[Any]]) -> list[str]:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().splitlines()


def _escaped(text: str) -> str:
    """As a regular expression of ECMA 262, which `re.escape` is not."""
    return re.sub(r"[\\^$.*+?()\[\]{}|/]", r"\\\g<0>", text)


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
