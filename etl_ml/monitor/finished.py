"""What a finished run has to say: from its failures, its checks and what it wrote to notices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from etl_ml.lake import Lake, Log, Run, Version
from etl_ml.monitor.notice import Notice
from etl_ml.spec.automation import Event
from etl_ml.spec.error import EtlMlError, listed
from etl_ml.spec.pipeline import Pipeline

_SHOWN = 5
_LONGEST = 600
# The checks that an event of its own tells better.
_TOLD_BY: dict[tuple[str, str], Event] = {
    ("validated_data", "drift"): "drift",
    ("model_evaluation", "gates"): "model_rejected",
    ("model_evaluation", "overfit"): "model_rejected",
    ("model_evaluation", "champion"): "model_rejected",
}


@dataclass(frozen=True)
class FailedStep:
    """A step that failed for good.

    Attributes
    ----------
    asset : that it was to make
    reason : what failed, as etl_ml says it; of other errors only their class, for their text may
        hold rows or credentials
    """

    asset: str
    reason: str


@dataclass(frozen=True)
class FailedCheck:
    """An asset check that did not pass; `stops` tells whether it ended the run."""

    asset: str
    name: str
    description: str = ""
    stops: bool = False


@dataclass(frozen=True)
class FinishedRun:
    """A run of a pipeline that has ended.

    Attributes
    ----------
    at : when, in seconds since 1970
    reason : why it failed where no step of it did
    retried : another run that tries the same again is on its way
    made : by asset, the metadata of what it materialized, as plain values
    """

    run_id: str
    status: Literal["succeeded", "failed", "canceled"]
    at: float
    failed_steps: tuple[FailedStep, ...] = ()
    failed_checks: tuple[FailedCheck, ...] = ()
    reason: str | None = None
    retried: bool = False
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def notices_of(run: FinishedRun, pipeline: Pipeline, lake: Lake | None) -> list[Notice]:
    """What is to be told of a run, whatever anybody has asked for.

    Parameters
    ----------
    lake : where the numbers are; without it, or where it does not answer, they are left out
    """
    return list(_Teller(run, pipeline, lake).all())


class _Teller:
    def __init__(self, run: FinishedRun, pipeline: Pipeline, lake: Lake | None) -> None:
        self._run, self._pipeline, self._lake = run, pipeline, lake
        self._name = pipeline.name

    def all(self) -> Iterator[Notice]:
        if self._run.status == "failed":
            yield self._failure()
        for check in self._run.failed_checks:
            yield self._check(check)
        if any((c.asset, c.name) == ("validated_data", "drift") for c in self._run.failed_checks):
            yield self._drift()
        evaluated, deployed = (
            self._run.made.get(asset) for asset in ("model_evaluation", "deployed_model")
        )
        if evaluated is not None and evaluated.get("deployable") is False:
            yield self._rejected()
        if deployed is not None:
            yield self._deployed(deployed)

    def _failure(self) -> Notice:
        steps = self._run.failed_steps
        names = [step.asset for step in steps]
        details = [bounded_lines(step.reason) for step in steps[:_SHOWN]]
        if not steps:
            details = [self._run.reason or "no step of it failed: its process has ended"]
        if self._run.retried:
            details.append("Dagster tries it again by itself.")
        numbers, report = self._counted() if "validated_data" in names else ({}, None)
        return self._notice(
            "run_failed",
            f"run_failed {','.join(sorted(names))}",
            f"the run failed at {listed(names, _SHOWN)}" if names else "the run failed",
            asset=names[0] if names else None,
            details=tuple(details),
            numbers=numbers,
            report=report,
            next=f"etl-ml quarantine {self._name}" if numbers else f"etl-ml show {self._name}",
        )

    def _check(self, check: FailedCheck) -> Notice:
        validated = check.asset == "validated_data"
        numbers, report = self._counted() if validated else ({}, None)
        quarantine = validated and check.name != "schema"
        # The step that ended the run told of all that its checks found.
        ended = check.stops or check.asset in [step.asset for step in self._run.failed_steps]
        return self._notice(
            "check_failed",
            f"check_failed {check.asset}/{check.name}",
            f"the check {check.name} of {check.asset} failed"
            + ("; the run went on" if self._run.status == "succeeded" else ""),
            asset=check.asset,
            details=(bounded_lines(check.description),) if check.description else (),
            numbers=numbers,
            report=report,
            next=f"etl-ml quarantine {self._name}"
            if quarantine
            else f"etl-ml show {self._name} {check.asset}",
            told_by=_TOLD_BY.get((check.asset, check.name), "run_failed" if ended else None),
        )

    def _drift(self) -> Notice:
        version = self._written("validated_data", "quarantined_data")
        report = _read(version, "drift_report.json")
        worst = sorted(
            (item for item in report.get("columns", {}).items() if item[1]["drifted"]),
            key=lambda item: -item[1]["effect"],
        )
        numbers = {
            name: f"effect {found['effect']:.2f} ({found['test']}), adjusted p "
            f"{found['p_adjusted']:.2g}"
            for name, found in worst[:_SHOWN]
        }
        details = []
        if report:
            details.append(
                f"{report['rows_compared']:,} new rows were compared with validated_data "
                f"{report['reference']}; {len(worst)} of {len(report['columns'])} columns differ."
            )
        if self._pipeline.automation.retrain_on_drift:
            details.append("A run that trains is asked for.")
        return self._notice(
            "drift",
            f"drift from {report.get('reference')}",
            f"new rows have drifted in {len(worst)} columns" if worst else "new rows have drifted",
            asset="validated_data",
            details=tuple(details),
            numbers=numbers,
            report=_page(version),
            next=f"etl-ml show {self._name} validated_data",
        )

    def _rejected(self) -> Notice:
        version = self._written("model_evaluation")
        report = _read(version, "evaluation_report.json")
        trained = version.manifest.upstream.get("trained_model") if version else None
        numbers = {
            name: f"{gate['value']:.4f}, gate {gate['limit']:g}"
            for name, gate in report.get("gates", {}).items()
        }
        champion = report.get("champion")
        if champion and champion["difference"] is not None:
            numbers[f"{champion['metric']} less the champion's"] = (
                f"{champion['difference']:+.4f} ({champion['low']:+.4f} to {champion['high']:+.4f})"
            )
        return self._notice(
            "model_rejected",
            "model_rejected",
            f"model {trained} is not deployed" if trained else "the new model is not deployed",
            asset="model_evaluation",
            details=(
                *(bounded_lines(reason) for reason in report.get("reasons", [])[:_SHOWN]),
                "The champion stays.",
            ),
            numbers=numbers,
            report=f"{version.url}/model_card.md" if version else None,
            next=f"etl-ml show {self._name} model_evaluation",
        )

    def _deployed(self, told: Mapping[str, Any]) -> Notice:
        version = str(told.get("champion") or told.get("waits_for_approval") or "")
        waits = "waits_for_approval" in told
        evaluation = _read(self._written("model_evaluation"), "evaluation_report.json")
        metric = self._pipeline.metric
        numbers: dict[str, str] = {}
        if found := evaluation.get("metrics", {}).get("test", {}).get(metric):
            rows = evaluation["rows"]["test"]
            numbers[metric] = _interval(found) + f" on {rows:,} test rows"
        details = [str(told["reason"])] if told.get("reason") else []
        if before := self._before(version):
            details.append(f"Before it, {before} was champion.")
        return self._notice(
            "model_deployed",
            f"model_deployed {version}{' waits' if waits else ''}",
            f"model {version} waits for approval" if waits else f"model {version} is the champion",
            asset="deployed_model",
            details=tuple(map(bounded_lines, details)),
            numbers=numbers,
            report=str(told["package"]) if told.get("package") else None,
            next=f"etl-ml {'promote' if waits else 'rollback'} {self._name}"
            + (f" {version}" if waits else ""),
        )

    def _before(self, version: str) -> str | None:
        if self._lake is None:
            return None
        try:
            entries = Log(self._lake, self._name).entries(last=2)
        except (EtlMlError, OSError):
            return None
        known = [entry.version for entry in entries]
        return known[0] if len(known) == 2 and known[1] == version else None

    def _counted(self) -> tuple[dict[str, str], str | None]:
        """Rows by what became of them, and the rules that broke most often."""
        version = self._written("quarantined_data")
        report = _read(version, "validation_report.json")
        if not report:
            return {}, None
        share = report["quarantined_rows"] / max(report["rows"], 1)
        numbers = {
            "rows": f"{report['rows']:,}",
            "quarantined": f"{report['quarantined_rows']:,} ({share:.1%}; "
            f"{self._pipeline.validation.max_quarantined:.1%} is allowed)",
        }
        broken = [check for check in report["checks"] if check["column"] and check["failed_rows"]]
        for check in sorted(broken, key=lambda check: -check["failed_rows"])[:_SHOWN]:
            numbers[f"{check['column']}: {check['name']}"] = f"{check['failed_rows']:,} rows"
        return numbers, _page(version)

    def _written(self, *assets: str) -> Version | None:
        """What the run wrote of the first of the assets that it wrote any of."""
        if self._lake is None:
            return None
        run = Run(self._lake, self._name, self._run.run_id)
        try:
            return next(filter(None, map(run.written, assets)), None)
        except (EtlMlError, OSError):  # the news is worth more than its numbers
            return None

    @cached_property
    def _run_page(self) -> str | None:
        """The run's own page, where it has come to write one."""
        if self._lake is None:
            return None
        folder = f"{self._name}/runs/{self._run.run_id}/"
        name = f"{folder}report.html"
        try:
            found = any(entry.name == name for entry in self._lake.backend.walk(folder))
        except (EtlMlError, OSError):
            return None
        return f"{self._lake.url}/{name}" if found else None

    def _notice(self, event: Event, key: str, what: str, **more: Any) -> Notice:
        run = self._run
        more["report"] = self._run_page or more.get("report")
        return Notice(event, self._name, key, what, run.at, run_id=run.run_id, **more)


def bounded_lines(text: str, most: int = _LONGEST) -> str:
    """Text of bounded length, each line without trailing white space."""
    kept = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return kept if len(kept) <= most else f"{kept[: most - 1]}…"


def _read(version: Version | None, file: str) -> dict[str, Any]:
    if version is None:
        return {}
    try:
        return dict(version.read(file))
    except (EtlMlError, OSError):
        return {}


def _page(version: Version | None) -> str | None:
    return f"{version.url}/validation_report.html" if version else None


def _interval(found: Mapping[str, Any]) -> str:
    if found["low"] is None or found["high"] is None:
        return f"{found['value']:.4f}"
    return f"{found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})"
