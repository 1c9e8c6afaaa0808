"""`etl-ml lake`: what is in it, whether it is sound, what it may forget, and moving it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

app = typer.Typer(
    name="lake",
    help="Look after a lake: remove what is old, hash everything again, move it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Pipelines = Annotated[
    list[str] | None, typer.Option("--pipeline", help="Only this one; may be given again.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command()
def vacuum(
    keep: Annotated[
        int, typer.Option(min=1, help="Versions of each asset that stay in any case.")
    ] = 30,
    older_than: Annotated[str, typer.Option(help="What is younger stays: 12h, 30d, 8w.")] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, remove nothing.")] = False,
    pipeline: Pipelines = None,
    as_json: AsJson = False,
) -> None:
    """Remove old versions and what killed writers left.

    What the registry, its lineage or a run of the last two days needs always stays.

    For example: etl-ml lake vacuum --keep 10 --older-than 7d --dry-run
    """
    from etl_ml.cli.terminal import console, print_json, table
    from etl_ml.lake import open_lake
    from etl_ml.lake.retention import vacuum as remove
    from etl_ml.spec.retention import duration

    try:
        age = duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
    lake = open_lake()
    found = {
        name: remove(lake, name, keep=keep, older_than=age, dry_run=dry_run)
        for name in pipeline or lake.pipelines()
    }
    if as_json:
        print_json({name: vars(removed) for name, removed in found.items()})
        return
    done = "Would remove" if dry_run else "Removed"
    columns = ["pipeline", "versions", "left-overs", "packages", "runs", "files of rows", "MB"]
    rows = [
        (
            name,
            len(removed.versions),
            len(removed.leftovers) + removed.unfinished,
            len(removed.packages),
            len(removed.runs),
            sum(removed.rows.values()),
            removed.bytes / 1e6,
        )
        for name, removed in found.items()
    ]
    console().print(table(f"{done} from {lake.url}", columns, rows))


@app.command()
def verify(pipeline: Pipelines = None, as_json: AsJson = False) -> None:
    """Hash every file and every table again, and name what is damaged.

    The exit code is 1 if anything is.

    For example: etl-ml lake verify --pipeline phishing
    """
    from dataclasses import asdict

    from etl_ml.cli.terminal import console, print_json, progress, table
    from etl_ml.lake import open_lake
    from etl_ml.lake.verification import verify as read_again

    lake = open_lake()
    with progress() as told:
        found = {name: read_again(lake, name, told=told) for name in pipeline or lake.pipelines()}
    damage = [(name, d.what, d.where) for name, v in found.items() for d in v.damage]
    if as_json:
        print_json({name: asdict(verified) for name, verified in found.items()})
    else:
        columns = ["pipeline", "versions", "files", "MB", "rows", "not compared", "damaged"]
        rows = [
            (name, v.versions, v.files, v.bytes / 1e6, v.rows, v.unproven, len(v.damage))
            for name, v in found.items()
        ]
        console().print(table(lake.url, columns, rows))
        if any(v.unproven for v in found.values()):
            print("Not compared: tables whose hash another release of Polars made; they were read.")
        for name, what, where in damage:
            print(f"Damaged: {name}: {what}\n  where     {where}", file=sys.stderr)
    if damage:
        raise typer.Exit(1)


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The URL of a lake.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The URL of another one.")],
    pipeline: Pipelines = None,
    as_json: AsJson = False,
) -> None:
    """Carry a lake to another place, with its versions, hashes, lineage and champions.

    A copy that was interrupted goes on when it is run again.

    For example: etl-ml lake copy .etl_ml/lake s3://bucket/lake
    """
    from dataclasses import asdict

    from etl_ml.cli.terminal import console, print_json, progress, table
    from etl_ml.lake import open_lake
    from etl_ml.lake.copying import copy as carry

    here, there = open_lake(source), open_lake(target)
    with progress() as told:
        found = {name: carry(here, there, name, told=told) for name in pipeline or here.pipelines()}
    if as_json:
        print_json({name: asdict(copied) for name, copied in found.items()})
        return
    columns = ["pipeline", "objects", "MB", "tables written anew", "there already"]
    rows = [(name, c.objects, c.bytes / 1e6, c.tables, c.there) for name, c in found.items()]
    console().print(table(f"{here.url} to {there.url}", columns, rows))
