"""The page: self-contained HTML, the verdict first."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from typing import Any

from etl_ml.lake import Lake
from etl_ml.report.collect import RunFacts, collect

_DRIFTS = 12
_BROKEN = 12


def store(
    lake: Lake, pipeline: str, run_id: str, deployment: Mapping[str, Any] | None = None
) -> str:
    """Write the page of the newest versions as a run's `report.html`; returns where it is.

    Parameters
    ----------
    deployment : the report of a deployment that is not committed yet
    """
    facts = collect(lake, pipeline)
    name = f"{pipeline}/runs/{run_id}/report.html"
    shown = replace(facts, deployment=deployment or facts.deployment)
    lake.backend.put(name, page(shown).encode())
    return f"{lake.url}/{name}"


def page(facts: RunFacts) -> str:
    """The page as text; pictures are in it."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "share": _share, "score": _score, "day": _day}
    template = (files("etl_ml.report") / "page.html.jinja").read_text(encoding="utf-8")
    kind, verdict = _verdict(facts)
    drift = facts.drift or {"columns": {}}
    return environment.from_string(template).render(
        facts=facts,
        kind=kind,
        verdict=verdict,
        newest=max(facts.versions.values(), key=lambda version: version.manifest.created_at),
        broken=_broken(facts.validation or {"checks": []}),
        drifts=sorted(
            drift["columns"].items(), key=lambda c: (not c[1]["drifted"], -c[1]["effect"])
        )[:_DRIFTS],
        pictures=[(told, base64.b64encode(data).decode()) for told, data in facts.pictures],
        slices=_slices(facts.evaluation),
        changes=_changes(facts),
        lineage=sorted(facts.versions.items(), key=lambda each: each[1].manifest.created_at),
    )


def _verdict(facts: RunFacts) -> tuple[str, str]:
    """Good, soft or bad; and a sentence."""
    report, now = facts.evaluation, facts.champion
    stays = f" Version {now.version} stays champion." if now else " No model is deployed."
    if report is None:
        problems = [c["problem"] for c in (facts.validation or {})["checks"] if "problem" in c]
        told = " ".join(problems) or f"Drift: {(facts.drift or {}).get('verdict', '')}."
        return "bad", f"Stopped at validation: {told}{stays}"
    mine = facts.versions["trained_model"].version
    if now and now.version == mine:
        return "good", f"Version {mine} is the champion: {now.reason}."
    if facts.deployment and not facts.deployment["champion"]:
        return "soft", f"Version {mine} is packed and verified, and waits for approval.{stays}"
    if not report["deployable"]:
        return "soft", f"Not deployed: {'; '.join(report['reasons'])}.{stays}"
    if facts.deployment:
        return "soft", f"Version {mine} was champion.{stays}"
    return "soft", f"Version {mine} may be deployed, and was not yet.{stays}"


def _broken(validation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    failed = [check for check in validation["checks"] if check["failed_rows"]]
    return sorted(failed, key=lambda check: -check["failed_rows"])[:_BROKEN]


def _slices(report: Mapping[str, Any] | None) -> list[tuple[str, str, list[tuple[str, Any]]]]:
    """Column, metric, and its values with what was found."""
    if report is None:
        return []
    metric = report["overfit"]["metric"]
    return [(column, metric, list(values.items())) for column, values in report["slices"].items()]


def _changes(facts: RunFacts) -> list[tuple[str, str, str]]:
    """What is, what was with the champion that it was compared with."""
    report, before = facts.evaluation, facts.before
    if report is None or not before:
        return []
    rows = [
        ("estimator", report["model"]["candidate"], before["candidate"]),
        ("training rows", _number(report["rows"]["train"]), _number(before["train_rows"])),
        ("test rows", _number(report["rows"]["test"]), _number(before["test_rows"])),
        (
            "trained",
            _day(facts.versions["trained_model"].manifest.created_at),
            _day(before["created_at"]),
        ),
    ]
    return [(what, str(now), str(then)) for what, now, then in rows]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _score(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.4g}"


def _day(moment: str) -> str:
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M UTC")
