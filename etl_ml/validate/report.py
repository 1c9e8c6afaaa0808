"""The validation report as a page: verdict first, then rules, drift and columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etl_ml.spec.contract import Column
from etl_ml.spec.pipeline import Pipeline

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_TABLE_CHECKS = ("row_count", "quarantined_share", "target")
_LONGEST = 80
_BARS = 5


def report_html(
    pipeline: Pipeline,
    validation: Mapping[str, Any],
    drift: Mapping[str, Any],
    profile: Mapping[str, Any],
) -> str:
    """One self-contained page, from what `validation_report.json`, `drift_report.json` and
    `profile.json` hold; nothing of a sensitive column but counts is in them, nor in it.
    """
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "share": share, "text": text}
    broken = [c for c in validation["checks"] if not c["passed"] and c["name"] not in _TABLE_CHECKS]
    problems = [c["problem"] for c in validation["checks"] if "problem" in c]
    if drift["drifted"] and pipeline.validation.drift.on_drift == "fail":
        problems.append(f"Drift: {drift['verdict']}.")
    drifts = sorted(drift["columns"].items(), key=lambda c: (not c[1]["drifted"], -c[1]["effect"]))
    return environment.from_string(_TEMPLATE.read_text()).render(
        pipeline=pipeline,
        validation=validation,
        drift=drift,
        profile=profile,
        problems=problems,
        broken=sorted(broken, key=lambda check: -check["failed_rows"]),
        drifts=drifts,
        columns=[
            (name, told, list(rules_of(pipeline.contract.columns.get(name))), bars(told))
            for name, told in profile["columns"].items()
        ],
    )


def rules_of(column: Column | None) -> Iterator[str]:
    """A column's rules in words."""
    if column is None:
        yield "not in the contract"
        return
    if column.sensitive:
        yield "sensitive"
        return
    if not column.nullable:
        yield "never null"
    if column.min is not None:
        yield f"≥ {text(column.min)}"
    if column.max is not None:
        yield f"≤ {text(column.max)}"
    if column.allowed is not None:
        yield f"one of {text(', '.join(map(str, column.allowed)))}"
    if column.pattern is not None:
        yield f"matches {text(column.pattern)}"
    if column.max_length is not None:
        yield f"up to {column.max_length} characters"
    if column.unique:
        yield "unique"


def bars(column: Mapping[str, Any]) -> dict[str, Any] | None:
    """A histogram's bars as (x, y, width, height) in a box of 160 by 40, and what it shows."""
    found = column.get("histogram")
    if not found or not sum(found["counts"]):
        return None
    counts, edges = found["counts"], found["edges"]
    width, highest = 160 / len(counts), max(counts)
    shapes = [
        (
            round(i * width, 2),
            round(40 - 40 * count / highest, 2),
            round(max(width - 0.6, 0.4), 2),
            round(40 * count / highest, 2),
        )
        for i, count in enumerate(counts)
        if count
    ]
    return {"shapes": shapes, "low": edges[0], "high": edges[-1]}


def number(value: Any) -> str:
    """For people: thousands apart, floats to four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        shown = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
        return shown.removesuffix(".0")
    return f"{value:.3e}"


def share(value: float) -> str:
    """A share as a percentage; none that is not nothing is shown as 0."""
    if 0 < value < 0.001:
        return "< 0.1 %"
    return f"{100 * value:.1f} %"


def text(value: Any) -> str:
    """At most 80 characters, control characters and changes of direction made visible."""
    shown = str(value)
    cut = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)
