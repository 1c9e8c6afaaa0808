"""`etl-ml schema`: the JSON schema of a pipeline, for editors that complete and check YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA_FILE = Path(".etl_ml/pipeline.schema.json")
"""Where `init` puts it, below the project's folder."""


def pipeline_schema() -> dict[str, Any]:
    """The JSON schema of a whole `defs.yaml`."""
    from etl_ml.spec.json_schema import stored_schema

    attributes = stored_schema()
    definitions = attributes.pop("$defs")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A pipeline of etl_ml",
        "type": "object",
        "required": ["type", "attributes"],
        "properties": {
            "type": {"const": "etl_ml.TabularPipeline"},
            "attributes": attributes,
            "requirements": {"type": "object"},
            "post_processing": {"type": "object"},
        },
        "additionalProperties": False,
        "$defs": definitions,
    }


def schema_text() -> str:
    return json.dumps(pipeline_schema(), indent=2, ensure_ascii=False) + "\n"


def write_schema(file: Path) -> None:
    """Write the schema, in place of an older one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(schema_text())
