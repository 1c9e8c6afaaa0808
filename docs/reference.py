"""Pages of the documentation that are made from the code: every key, and every command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for name, text in (("keys", keys()), ("commands", commands())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def keys() -> str:
    """Every key of a defs.yaml, from the models that parse it."""
    from etl_ml.cli.schema import pipeline_schema

    schema = pipeline_schema()
    lines = ["# Every key", "", "What `attributes:` of a `defs.yaml` may hold.", ""]
    lines += _section("attributes", schema["properties"]["attributes"])
    for name, section in sorted(schema["$defs"].items()):
        lines += _section(name, section)
    return "\n".join(lines) + "\n"


def _section(name: str, section: dict[str, Any]) -> Iterator[str]:
    if "properties" not in section:
        return
    yield from (f"## {name}", "", section.get("description", "").partition("\n")[0], "")
    yield from ("| key | type | default | |", "|---|---|---|---|")
    required = section.get("required", [])
    for key, field in section["properties"].items():
        default = "required" if key in required else f"`{_shown(field.get('default'))}`"
        told = field.get("description", "").replace("|", "\\|").replace("\n", " ")
        yield f"| `{key}` | {_type(field)} | {default} | {told} |"
    yield ""


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(dict.fromkeys(_type(each) for each in field[union]))
    if cases := [case["then"] for case in field.get("allOf", []) if "then" in case]:
        return " or ".join(map(_type, cases))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {})) or 'anything'}"
    if field.get("type") == "object" and "additionalProperties" in field:
        inner = field["additionalProperties"]
        return f"mapping of {_type(inner) if isinstance(inner, dict) else 'anything'}"
    return str(field.get("type", "anything"))


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def commands() -> str:
    """Every command's help, as the terminal shows it."""
    import typer

    from etl_ml.cli.app import app

    group: Any = typer.main.get_command(app)
    lines = [
        "# Every command",
        "",
        "Exit codes: 0 it is done; 1 it could not be done, which standard error explains, or a "
        "check found something; 2 the command was not written as it should be.",
        "",
        "Commands that print tables take `--json`. `NO_COLOR` is honoured; a pipe gets plain text. "
        "`etl-ml --install-completion` teaches your shell the names.",
        "",
    ]
    for path, command in _leaves("etl-ml", group):
        context = command.make_context(path, [], resilient_parsing=True)
        lines += [f"## {path}", "", "```text", command.get_help(context).strip(), "```", ""]
    return "\n".join(lines)


def _leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, each in sorted(inner.items()):
        yield from _leaves(f"{path} {name}", each)
