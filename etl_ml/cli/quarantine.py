"""`etl-ml quarantine`: rejected rows and why, and trying them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from etl_ml.cli.materialize import find_project
from etl_ml.cli.show import known
from etl_ml.cli.terminal import console, print_json, table
from etl_ml.lake import Lake, Version
from etl_ml.spec.error import listed
from etl_ml.validate.quarantine import REASONS, counted, outstanding

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 20


def show_quarantine(lake: Lake, pipeline: str, *, as_json: bool) -> None:
    """The rows that the latest run rejected: counts by reason, with examples of cells.

    The examples are those of the report, which has none of a sensitive column.
    """
    known(lake, pipeline)
    version = lake.open(pipeline, "quarantined_data")
    report = version.read("validation_report.json")
    examples = {_reason(check): check["examples"] for check in report["checks"]}
    reasons = counted(_reasons(version))
    if as_json:
        told = [
            {"reason": reason, "rows": rows, "examples": examples.get(reason, [])}
            for reason, rows in reasons
        ]
        counts = {key: report[key] for key in ("rows", "valid_rows", "quarantined_rows")}
        print_json(
            {"version": version.version, "run_id": version.manifest.run_id}
            | counts
            | {"reasons": told}
        )
        return
    out = console()
    share = report["quarantined_rows"] / max(report["rows"], 1)
    out.print(
        Text(
            f"{pipeline}/quarantined_data {version.version}, made "
            f"{version.manifest.created_at[:19].replace('T', ' ')} UTC: "
            f"{report['quarantined_rows']:,} of {report['rows']:,} rows read ({share:.1%})."
        )
    )
    if reasons:
        rows = [[reason, n, listed(examples.get(reason, []))] for reason, n in reasons[:_SHOWN]]
        out.print()
        out.print(table("Why", ["reason", "rows", "for example"], rows))
        out.print()
        out.print(
            Text(
                "The rows as they were read: "
                f'open_lake().table("{pipeline}", "quarantined_data").to_polars()\n'
                f"Still to mend, over all runs: etl-ml quarantine {pipeline} --all"
            )
        )


def show_outstanding(lake: Lake, pipeline: str, *, as_json: bool) -> None:
    """The rows that any run rejected and none has passed since."""
    known(lake, pipeline)
    lake.open(pipeline, "quarantined_data")  # says so where there is none
    rows = outstanding(lake, pipeline)
    reasons = counted(rows[REASONS])
    if as_json:
        told = [{"reason": reason, "rows": n} for reason, n in reasons]
        print_json({"outstanding": rows.height, "reasons": told})
        return
    out = console()
    out.print(Text(f"{pipeline}: {_outstanding(rows)}"))
    if rows.height:
        spans = [[reason, n, *_seen(rows, reason)] for reason, n in reasons[:_SHOWN]]
        out.print()
        out.print(table("Why", ["reason", "rows", "first seen", "last seen"], spans))
        out.print()
        out.print(Text(f"After mending the contract: etl-ml quarantine {pipeline} --replay"))


def replay_quarantine(pipeline: str) -> None:
    """Validate again, with the rows that earlier runs rejected.

    Raises
    ------
    EtlMlError
        The working directory is in no project, or the run failed.
    """
    project = find_project()
    lake = project.lake()
    known(lake, pipeline)
    lake.open(pipeline, "quarantined_data")
    before = outstanding(lake, pipeline)
    out = console()
    out.print(Text(f"{pipeline}: {_outstanding(before)}"))
    if not before.height:
        return
    failed = "the rows were not tried again; validated_data is as it was."
    project.materialize(pipeline, "validated_data", {"replay": True}, failed)
    after = outstanding(lake, pipeline)
    out.print(
        Text(f"\n{before.height - after.height:,} of {before.height:,} rows pass now; ", end="")
    )
    out.print(Text(f"{after.height:,} do not."))
    if after.height:
        out.print(table("Why", ["reason", "rows"], counted(after[REASONS])[:_SHOWN]))
    out.print(Text(f"\n{_downstream(project.next_step(pipeline), pipeline)}"))


def _downstream(step: str, pipeline: str) -> str:
    """The rest of the pipeline, without reading the source and validating again."""
    return step.replace(f"'group:{pipeline}'", f"""'key:"{pipeline}/clean_data"+'""")


def _outstanding(rows: pl.DataFrame) -> str:
    if not rows.height:
        return "no rejected row is outstanding."
    return f"{rows.height:,} rejected rows have not passed since."


def _seen(rows: pl.DataFrame, reason: str) -> tuple[Any, Any]:
    import polars as pl

    some = rows.filter(pl.col(REASONS).list.contains(reason))
    return some["first_seen"].min(), some["last_seen"].max()


def _reason(check: dict[str, Any]) -> str:
    return f"{check['column'] or 'rules'}: {check['name']}"


def _reasons(version: Version) -> list[list[str]]:
    column = version.table.scan().select(REASONS).collect(engine="streaming")[REASONS]
    return column.to_list()
