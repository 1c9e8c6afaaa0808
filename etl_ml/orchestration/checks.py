"""The asset checks: what stops a run, what warns, and what each says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from etl_ml.spec.pipeline import Pipeline

_GROUPS = {"nullable": "nulls", "unique": "unique"}
_OF_TABLE = ("row_count", "quarantined_share", "target")
_SHOWN = 20
_LEVELS = 3


def check_specs(pipeline: Pipeline, asset: str) -> list[dg.AssetCheckSpec]:
    """The checks of an asset."""
    key = dg.AssetKey([pipeline.name, asset])
    drift = pipeline.validation.drift
    described: dict[str, dict[str, tuple[bool, str]]] = {
        "validated_data": {
            "schema": (True, "The source has the contract's columns."),
            "row_count": (True, f"At least {pipeline.validation.min_rows} rows are valid."),
            "quarantined_share": (
                True,
                f"At most {pipeline.validation.max_quarantined:.1%} of the rows are quarantined.",
            ),
            "target": (
                True,
                _target_told(pipeline),
            ),
            "nulls": (False, "No value is missing where the contract wants one."),
            "values": (
                False,
                "Every value keeps its rules, and rules between columns hold.",
            ),
            "unique": (False, "Keys and unique columns do not repeat."),
            "drift": (
                drift.on_drift == "fail",
                "New rows come from where the deployed model's rows came from.",
            ),
        },
        "transformed_arrays": {
            "no_leakage": (
                True,
                "No row, no feature row and no group is on both sides of the split, time runs "
                "from one to the other, and no feature gives the target away.",
            ),
            "finite": (True, "Every feature is a finite number."),
        },
        "model_evaluation": {
            "gates": (False, "The test metrics pass their gates."),
            "overfit": (False, "The cross-validated score holds on the test rows."),
            "champion": (False, "The model is not worse than the champion."),
        },
        "deployed_model": {
            "answers_as_trained": (
                True,
                "Loaded in a fresh process, the model answers as it did in training.",
            ),
        },
    }
    return [
        dg.AssetCheckSpec(name, asset=key, blocking=blocking, description=text)
        for name, (blocking, text) in described.get(asset, {}).items()
    ]


def _target_told(pipeline: Pipeline) -> str:
    if pipeline.target.task == "regression":
        return f"{pipeline.target.column} has more than one value."
    return (
        f"{pipeline.target.column} has two classes at least, each with more than "
        f"{pipeline.training.folds} rows."
    )


class Checks:
    """Results for one asset's checks, of those that were selected."""

    def __init__(
        self, pipeline: Pipeline, asset: str, selected: Iterable[dg.AssetCheckKey]
    ) -> None:
        self._key = dg.AssetKey([pipeline.name, asset])
        self._selected = {check.name for check in selected if check.asset_key == self._key}

    def result(
        self,
        name: str,
        passed: bool,
        description: str = "",
        *,
        warn: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> Iterator[dg.AssetCheckResult]:
        if name not in self._selected:
            return
        yield dg.AssetCheckResult(
            asset_key=self._key,
            check_name=name,
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR,
            description=description or None,
            metadata=dict(metadata or {}),
        )

    def of_problems(
        self,
        names: Iterable[str],
        problems: Mapping[str, str],
        warnings: Mapping[str, str] | None = None,
    ) -> Iterator[dg.AssetCheckResult]:
        """One result a name, failed where there is a problem of that name, or a warning."""
        told = {**(warnings or {}), **problems}
        for name in names:
            warn = name in told and name not in problems
            yield from self.result(name, name not in told, told.get(name, ""), warn=warn)


def validation_results(
    checks: Checks, report: Mapping[str, Any], problems: Mapping[str, str]
) -> Iterator[dg.AssetCheckResult]:
    """The results of everything but drift."""
    yield from checks.result("schema", True)
    yield from checks.of_problems(("row_count", "quarantined_share", "target"), problems)
    broken_of: dict[str, list[dict[str, Any]]] = {"nulls": [], "values": [], "unique": []}
    for check in report["checks"]:
        if not check["passed"] and check["name"] not in _OF_TABLE:
            broken_of[_GROUPS.get(check["name"], "values")].append(check)
    for name, broken in broken_of.items():
        cells = sum(check["failed_rows"] for check in broken)
        told = f"{cells} cells break a rule; their rows are in quarantined_data." if broken else ""
        yield from checks.result(
            name, not broken, told, warn=True, metadata=_broken_table(broken) if broken else None
        )


def _broken_table(broken: list[dict[str, Any]]) -> dict[str, Any]:
    records = [
        dg.TableRecord(
            {
                "column": check["column"] or "",
                "rule": check["name"],
                "rows": check["failed_rows"],
                "examples": ", ".join(str(example) for example in check["examples"]),
            }
        )
        for check in sorted(broken, key=lambda check: -check["failed_rows"])[:_SHOWN]
    ]
    return {"broken_rules": dg.MetadataValue.table(records)}


def drift_result(
    checks: Checks, drift: Mapping[str, Any], pipeline: Pipeline
) -> Iterator[dg.AssetCheckResult]:
    """Whether new rows differ from the reference, with the worst columns."""
    worst = sorted(drift["columns"].items(), key=lambda item: -item[1]["effect"])[:_SHOWN]
    records = [
        dg.TableRecord(
            {
                "column": name,
                "test": test["test"],
                "effect": round(test["effect"], 4),
                "p_adjusted": float(f"{test['p_adjusted']:.2g}"),
                "drifted": test["drifted"],
                "nulls": " → ".join(f"{test['nulls'][side]:.1%}" for side in ("reference", "new")),
                "new_levels": ", ".join(test.get("new_levels", [])[:_LEVELS]),
            }
        )
        for name, test in worst
    ]
    metadata: dict[str, Any] = {"rows_compared": drift["rows_compared"]}
    if drift["reference"]:
        metadata["reference"] = drift["reference"]
    if records:
        metadata["worst_effect"] = worst[0][1]["effect"]
        metadata["columns"] = dg.MetadataValue.table(records)
    yield from checks.result(
        "drift",
        not drift["drifted"],
        drift["verdict"],
        warn=pipeline.validation.drift.on_drift == "warn",
        metadata=metadata,
    )


def evaluation_results(checks: Checks, report: Mapping[str, Any]) -> Iterator[dg.AssetCheckResult]:
    """Gates, overfit and champion: below the bar is a warning, and nothing is deployed."""
    gates, overfit, champion = report["gates"], report["overfit"], report["champion"]
    missed = [name for name, gate in gates.items() if not gate["passed"]]
    told = "; ".join(f"{n} {gates[n]['value']:.4f}, gate {gates[n]['limit']:g}" for n in missed)
    records = [
        dg.TableRecord({"metric": name, **{k: gate[k] for k in ("limit", "value", "passed")}})
        for name, gate in gates.items()
    ]
    shown = {"gates": dg.MetadataValue.table(records)} if records else None
    told = told or (f"{len(gates)} gates are passed." if gates else "No gate is set.")
    if report["baseline"]["beaten"] is False:
        base = report["baseline"]
        told = f"{told.rstrip('.')}. Answering every row alike reaches {base['metric']} "
        told += f"{base['value']:.4f} at best: the model is not surely better."
    yield from checks.result("gates", not missed, told, warn=True, metadata=shown)
    yield from checks.result(
        "overfit",
        overfit["passed"],
        f"Cross-validated {overfit['metric']} {overfit['cross_validated']:.4f}, "
        f"test {overfit['test']:.4f}; "
        + ("no limit is set." if overfit["limit"] is None else f"limit {overfit['limit']:g}."),
        warn=True,
        metadata={"difference": overfit["difference"]},
    )
    if champion is None:
        yield from checks.result("champion", True, "There is no champion to compare with.")
        return
    numbers = {k: champion[k] for k in ("difference", "low", "high") if champion[k] is not None}
    yield from checks.result(
        "champion",
        champion["passed"] is not False and not champion["warning"],
        f"Against version {champion['version']}: {champion['reason']}."
        + (f" But {champion['warning']}." if champion["warning"] else ""),
        warn=True,
        metadata={"rows": champion["rows"], **numbers},
    )
