"""`etl-ml show`: what the last run, or an earlier version, found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from etl_ml.cli.terminal import console, print_json, shown, table
from etl_ml.lake import Lake, Log, MissingVersion, Version
from etl_ml.lake.growing import cursor_text
from etl_ml.spec.error import listed, nearest

ASSETS = (
    "raw_data",
    "validated_data",
    "quarantined_data",
    "clean_data",
    "loaded_data",
    "transformed_arrays",
    "trained_model",
    "model_evaluation",
    "deployed_model",
    "performance",
)
_SHOWN = 12


def show_pipeline(lake: Lake, pipeline: str, *, as_json: bool) -> None:
    """The latest version of every asset."""
    known(lake, pipeline)
    latest = {asset: lake.latest(pipeline, asset) for asset in ASSETS}
    versions = {a: lake.open(pipeline, a, v) for a, v in latest.items() if v is not None}
    if as_json:
        print_json({asset: as_document(version) for asset, version in versions.items()})
        return
    out = console()
    for part in _overview(lake, pipeline, versions):
        out.print(part)
        out.print()


def show_asset(
    lake: Lake, pipeline: str, asset: str, version: str | None, *, as_json: bool
) -> None:
    """One version of one asset."""
    known(lake, pipeline)
    if asset not in ASSETS:
        close = nearest(asset, ASSETS)
        raise MissingVersion(
            f"{pipeline} has no asset {asset!r}.",
            close=close and repr(close),
            fix=f"its assets are {', '.join(ASSETS)}",
        )
    found = lake.open(pipeline, asset, version)
    if as_json:
        print_json(as_document(found))
        return
    out = console()
    out.print(_heading(found))
    for part in _details(found):
        out.print()
        out.print(part)


def known(lake: Lake, pipeline: str) -> None:
    """Refuse a pipeline that has never written to the lake, naming the nearest that has."""
    pipelines = lake.pipelines()
    if pipeline not in pipelines:
        close = nearest(pipeline, pipelines)
        raise MissingVersion(
            f"the lake has no pipeline {pipeline!r}.",
            seen=f"it has {listed(pipelines)}" if pipelines else "it is empty",
            where=lake.url,
            close=close and repr(close),
            fix="materialize it first, or set ETL_ML_LAKE to the lake that has it",
        )


def as_document(version: Version) -> dict[str, Any]:
    """A version with its reports, by file name."""
    manifest = version.manifest
    cursor = _cursor(version)
    return {
        "version": manifest.version,
        "created_at": manifest.created_at,
        "run_id": manifest.run_id,
        "upstream": dict(manifest.upstream),
        "rows": manifest.table.rows if manifest.table else None,
        **({"cursor": cursor} if cursor else {}),
    } | _reports(version)


def _cursor(version: Version) -> dict[str, Any] | None:
    """Where an incremental source was read up to; the list of files is for machines."""
    table_ref = version.manifest.table
    cursor = version.table.cursor if table_ref else None
    if cursor is None:
        return None
    if version.table.stamp.get("version") != version.version:
        cursor["new_rows"] = 0  # a run that found nothing new
        cursor.pop("gaps", None)
    return {k: v for k, v in cursor.items() if k not in ("source", "files")}


def _reports(version: Version) -> dict[str, Any]:
    names = [f.path for f in version.manifest.files if f.path.endswith(".json")]
    return {name: version.read(name) for name in names}


def _heading(version: Version) -> Text:
    manifest = version.manifest
    upstream = ", ".join(f"{name} {number}" for name, number in manifest.upstream.items())
    lines = [
        f"{manifest.pipeline}/{manifest.asset} {manifest.version}",
        f"made     {manifest.created_at}"
        + (f" by run {manifest.run_id}" if manifest.run_id else ""),
        *([f"from     {upstream}"] if upstream else []),
        *([f"rows     {manifest.table.rows:,}"] if manifest.table else []),
        *([f"cursor   {cursor_text(cursor)}"] if (cursor := _cursor(version)) else []),
        *([f"new      {cursor['new_rows']:,} rows"] if cursor and "new_rows" in cursor else []),
        *(f"gap      {gap}" for gap in (cursor or {}).get("gaps", ())),
        f"files    {version.url}",
    ]
    text = Text("\n".join(lines))
    text.stylize("bold", 0, len(lines[0]))
    return text


def _overview(
    lake: Lake, pipeline: str, versions: Mapping[str, Version]
) -> Iterator[RenderableType]:
    rows = []
    for asset, version in versions.items():
        table_ref = version.manifest.table
        made = version.manifest.created_at[:19].replace("T", " ")
        rows.append([asset, version.version, made, table_ref.rows if table_ref else None])
    yield table(pipeline, ["asset", "version", "made (UTC)", "rows"], rows)
    if "trained_model" in versions:
        yield from _trained(versions["trained_model"])
    if "model_evaluation" in versions:
        yield from _evaluated(versions["model_evaluation"])
    head = Log(lake, pipeline).head()
    told = (
        f"The champion is version {head.version} since {head.at[:19].replace('T', ' ')} UTC: "
        f"{head.reason}."
        if head
        else "There is no champion yet."
    )
    yield Text(f"{told}\n\nThe lake: {lake.url}\nMore:     etl-ml show {pipeline} model_evaluation")


def _details(version: Version) -> Iterator[RenderableType]:
    parts: dict[str, Callable[[Version], Iterator[RenderableType]]] = {
        "validated_data": _validated,
        "quarantined_data": _validated,
        "trained_model": _trained,
        "model_evaluation": _evaluated,
        "loaded_data": _loaded,
        "performance": _performance,
    }
    if version.manifest.asset in parts:
        yield from parts[version.manifest.asset](version)
        return
    for name, report in _reports(version).items():
        rows = list(_flat(report))
        yield table(name, ["", ""], rows[:40])
        if len(rows) > 40:
            yield Text(f"and {len(rows) - 40} more: use --json")


def _flat(value: Any, path: str = "") -> Iterator[list[str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for place, item in enumerate(value):
            yield from _flat(item, f"{path}.{place}".lstrip("."))
    else:
        text = listed(value, 12) if isinstance(value, list) else shown(value)
        yield [path, text]


def _validated(version: Version) -> Iterator[RenderableType]:
    report, drift = version.read("validation_report.json"), version.read("drift_report.json")
    counts = [report[f"{kind}rows"] for kind in ("", "valid_", "quarantined_", "superseded_")]
    yield table("Rows", ["read", "valid", "quarantined", "superseded"], [counts])
    broken = [check for check in report["checks"] if not check["passed"]]
    if broken:
        rows = [
            [
                c["column"] or "",
                c["name"],
                c["failed_rows"],
                c.get("problem") or listed(c["examples"]),
            ]
            for c in sorted(broken, key=lambda check: -check["failed_rows"])
        ]
        yield table("Broken rules", ["column", "rule", "rows", "examples"], rows)
    else:
        yield Text("Every rule of the contract is kept.")
    yield Text(f"Drift: {drift['verdict']}.")
    worst = sorted(drift["columns"].items(), key=lambda item: -item[1]["effect"])[:_SHOWN]
    if worst:
        rows = [[n, t["test"], t["effect"], t["p_adjusted"], t["drifted"]] for n, t in worst]
        yield table("Most changed", ["column", "test", "effect", "p adjusted", "drifted"], rows)


def _loaded(version: Version) -> Iterator[RenderableType]:
    places = version.read("load_report.json")["destinations"]
    rows = [[p["destination"], p["mode"], p["rows"], f"{p['seconds']:.1f}"] for p in places]
    yield table("Destinations", ["destination", "mode", "rows", "seconds"], rows)


def _performance(version: Version) -> Iterator[RenderableType]:
    from etl_ml.cli.labels import performance_tables

    yield from performance_tables(version.read("performance_report.json"))


def _trained(version: Version) -> Iterator[RenderableType]:
    board = version.read("leaderboard.json")
    rows = [
        [
            entry["candidate"],
            ", ".join(f"{k}={v}" for k, v in entry["params"].items()),
            entry["mean"],
            entry["std"],
            f"{entry['fit_seconds']:.2f}",
            entry.get("error", ""),
        ]
        for entry in board[:_SHOWN]
    ]
    metric = board[0]["metric"]
    yield table(
        f"Leaderboard, cross-validated {metric}",
        ["candidate", "parameters", "mean", "std", "seconds", ""],
        rows,
    )


def _evaluated(version: Version) -> Iterator[RenderableType]:
    report = version.read("evaluation_report.json")
    gates = report["gates"]
    rows = [
        [
            name,
            found["value"],
            f"{shown(found['low'])} to {shown(found['high'])}",
            f"{gates[name]['limit']:g} {'passed' if gates[name]['passed'] else 'missed'}"
            if name in gates
            else "",
        ]
        for name, found in report["metrics"]["test"].items()
    ]
    yield table(
        f"Test metrics of {report['model']['candidate']}, {report['rows']['test']:,} rows",
        ["metric", "value", "95 % interval", "gate"],
        rows,
    )
    champion = report["champion"]
    if champion:
        yield Text(f"Against champion {champion['version']}: {champion['reason']}.")
    verdict = "May be deployed." if report["deployable"] else "Not deployable: "
    yield Text(
        verdict + "; ".join(report["reasons"]), style="green" if report["deployable"] else "red"
    )
