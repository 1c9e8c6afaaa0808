"""`etl-ml models`: the registry and its history."""

from __future__ import annotations

from dataclasses import asdict

from rich.text import Text

from etl_ml.cli.show import known
from etl_ml.cli.terminal import console, print_json, table
from etl_ml.lake import Lake, Log


def show_models(lake: Lake, pipeline: str, *, as_json: bool) -> None:
    """The champion now, and every promotion, the newest first."""
    known(lake, pipeline)
    entries = list(reversed(Log(lake, pipeline).entries()))
    if as_json:
        history = [asdict(entry) for entry in entries]
        print_json({"champion": entries[0].version if entries else None, "history": history})
        return
    out = console()
    if not entries:
        out.print(Text(f"No model of {pipeline} has been deployed yet."))
        return
    rows = [
        [
            "champion" if place == 0 else "",
            entry.version,
            entry.at[:19].replace("T", " "),
            entry.metric,
            entry.value,
            entry.by,
            entry.reason,
        ]
        for place, entry in enumerate(entries)
    ]
    out.print(table(pipeline, ["", "version", "since (UTC)", "metric", "test", "by", "why"], rows))
    out.print(Text(f"\nThe packages: {lake.url}/{pipeline}/registry/models"))
