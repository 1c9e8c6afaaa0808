"""The JSON schema of a pipeline, for editors and for `dg check defs`.

It is made from the models and kept beside them: making it anew would cost each load of a location
more than reading the pipeline does.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl_ml.spec.deployment import CLASS, CLASS_PATTERN

_KINDS = ("Source", "Destination", "Target", "Alert", "Auth", "Paginator")
FILE = Path(__file__).with_name("pipeline.schema.json")


def stored_schema() -> dict[str, Any]:
    """The schema as it was made for this release."""
    schema: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return schema


def made_schema() -> dict[str, Any]:
    """The schema of the models as they are."""
    from etl_ml.spec.pipeline import Pipeline

    schema: dict[str, Any] = _told_apart(Pipeline.model_json_schema())
    for name, section in schema["$defs"].items():
        kind = section.get("properties", {}).get("type", {})
        if name.endswith(_KINDS) and "description" not in kind:
            kind["description"] = section["description"].partition("\n")[0]
    return schema


def _told_apart(schema: Any) -> Any:
    """A schema whose unions are decided by `type` first.

    A validator that has tried every member of a union can only print the whole mapping, with the
    secrets in it; decided so, it names the key.
    """
    if isinstance(schema, list):
        return [_told_apart(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    told = {key: _told_apart(value) for key, value in schema.items()}
    mapping = told.get("discriminator", {}).get("mapping") if "oneOf" in told else None
    if not mapping:
        return told
    named = [kind for kind in mapping if kind != CLASS]
    kinds: list[dict[str, Any]] = [{"enum": named}]
    cases = [_case({"const": kind}, mapping[kind]) for kind in named]
    if CLASS in mapping:  # any `module:Class`, also alone
        kinds.append({"type": "string", "pattern": ":"})
        cases.append(_case({"pattern": ":"}, mapping[CLASS]))
    kept = {key: value for key, value in told.items() if key not in ("oneOf", "discriminator")}
    alone = {"pattern": CLASS_PATTERN} if CLASS in mapping else {}
    return {
        **(kept | alone),
        "type": ["object", "string"] if alone else "object",
        "required": ["type"],
        "properties": {"type": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}},
        "allOf": cases,
    }


def _case(kind: dict[str, Any], reference: str) -> dict[str, Any]:
    of_kind = {"type": "object", "properties": {"type": kind}, "required": ["type"]}
    return {"if": of_kind, "then": {"$ref": reference}}


if __name__ == "__main__":  # python -m etl_ml.spec.json_schema
    FILE.write_text(json.dumps(made_schema(), ensure_ascii=False) + "\n", encoding="utf-8")
