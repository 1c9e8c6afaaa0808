"""How far a pipeline has come, as its lake tells: what was made from what, and what is missing.

Nothing here is remembered from one look to the next but manifests, which never change. So a run
that was killed, deleted or started elsewhere counts for what it left in the lake, and for no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from etl_ml.lake import Lake, Log, Run, Version
from etl_ml.spec.pipeline import Pipeline

DATA = ("validated_data", "quarantined_data", "clean_data")
MODEL = ("transformed_arrays", "trained_model", "model_evaluation", "deployed_model")


@dataclass(frozen=True)
class State:
    """What the newest `raw_data` has become.

    Attributes
    ----------
    raw : the newest version, None where there is none
    behind : whether clean rows, or a destination, were made from other rows than raw's
    refused : why validation did not let raw's rows pass, where nothing but a change helps
    trained_on : rows of the `raw_data` that the newest judged model was made from, None without one
    current : whether that was raw's rows
    undeployed : a model that may be deployed and is not
    """

    raw: Version | None
    behind: bool = False
    refused: str | None = None
    trained_on: int | None = None
    current: bool = False
    undeployed: str | None = None

    @property
    def rows(self) -> int:
        return self.raw.table.rows if self.raw is not None else 0

    def is_done(self, *, train: bool) -> bool:
        """Whether raw's rows have become all that is asked of them."""
        return not self.behind and (self.current or not train)


class StateReader:
    """Reads the state of one pipeline.

    Parameters
    ----------
    code_version : of `validated_data`: with another one, its verdict may be another
    """

    def __init__(self, lake: Lake, pipeline: Pipeline, code_version: str = "") -> None:
        self._lake, self._pipeline, self._code_version = lake, pipeline, code_version
        self._run = Run(lake, pipeline.name, "")

    def read(self) -> State:
        """The state now.

        Raises
        ------
        EtlMlError
            The lake does not answer, or something in it is damaged.
        """
        raw = self._latest("raw_data")
        if raw is None:
            return State(None)
        wanted = ["clean_data", *(["loaded_data"] if self._pipeline.load else [])]
        behind = not all(self._is_of(asset, raw) for asset in wanted)
        evaluation = self._latest("model_evaluation")
        origin = self._origin(evaluation)
        return State(
            raw,
            behind,
            self._refused(raw) if behind else None,
            origin.table.rows if origin is not None else None,
            _same_rows(origin, raw),
            self._undeployed(evaluation),
        )

    def champion(self) -> str | None:
        """The champion's version."""
        head = Log(self._lake, self._pipeline.name).head()
        return head.version if head else None

    def _latest(self, asset: str) -> Version | None:
        version = self._lake.latest(self._pipeline.name, asset)
        return self._lake.open(self._pipeline.name, asset, version) if version else None

    def _origin(self, version: Version | None) -> Version | None:
        """The `raw_data` that a version was made from."""
        if version is None:
            return None
        found = self._run.closure(version.manifest.asset, version.version).get("raw_data")
        return self._lake.open(self._pipeline.name, "raw_data", found) if found else None

    def _is_of(self, asset: str, raw: Version) -> bool:
        return _same_rows(self._origin(self._latest(asset)), raw)

    def _refused(self, raw: Version) -> str | None:
        """Why the newest validation stopped at these very rows, under this very contract.

        Its verdict stands beside the rows that it has quarantined, whatever it was.
        """
        verdict = self._latest("quarantined_data")
        if verdict is None or verdict.manifest.code_version != self._code_version:
            return None
        if not _same_rows(self._origin(verdict), raw):
            return None
        if not verdict.read("validation_report.json")["passed"]:
            return "its rows break the contract"
        drift = verdict.read("drift_report.json")
        if drift["drifted"] and self._pipeline.validation.drift.on_drift == "fail":
            return f"its rows have drifted: {drift['verdict']}"
        return None

    def _undeployed(self, evaluation: Version | None) -> str | None:
        if evaluation is None:
            return None
        model = evaluation.manifest.upstream["trained_model"]
        deployed = self._latest("deployed_model")
        if deployed is not None:
            above = self._run.closure("deployed_model", deployed.version)
            if above.get("trained_model", "") >= model:
                return None
        report: dict[str, Any] = evaluation.read("evaluation_report.json")
        if not report["deployable"]:
            return None
        judged_against = report["champion"]["version"] if report["champion"] else None
        # Judged against another champion than today's, it would only be turned away again.
        return model if self.champion() in (judged_against, model) else None


def _same_rows(one: Version | None, other: Version | None) -> bool:
    if one is None or other is None:
        return False
    mine, theirs = one.manifest.table, other.manifest.table
    assert mine is not None
    assert theirs is not None
    same = mine.delta_version == theirs.delta_version
    return same or (mine.content is not None and mine.content == theirs.content)
