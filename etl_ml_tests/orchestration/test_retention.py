"""What a good run removes from the lake, as the YAML says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from etl_ml.lake import Log, Run
from etl_ml.lake.verification import verify
from etl_ml_tests.project import Project, attributes, failure_message


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl_ml.orchestration.forgetting._WORTH", 1)
    monkeypatch.setattr("etl_ml.lake.retention.GRACE", timedelta(0))


def run(project: Project, times: int) -> None:
    for _ in range(times):
        result = project.materialize()
        assert result.success, failure_message(result)


def test_a_good_run_forgets_what_is_old_and_keeps_what_the_champion_needs(
    project: Project,
) -> None:
    project.add(attributes(lake={"keep": 1, "older_than": "0m"}))
    run(project, 3)
    lake = project.lake
    champion = Log(lake, "loans").head()
    assert champion is not None
    needed = Run(lake, "loans", "").closure("trained_model", champion.version)
    for asset in ("raw_data", "validated_data", "clean_data", "transformed_arrays"):
        assert set(lake.versions("loans", asset)) == {needed[asset], "0000000003"}
    assert lake.versions("loans", "quarantined_data") == ["0000000003"]
    assert not verify(lake, "loans").damage
    run(project, 1)


def test_by_default_thirty_days_are_remembered(project: Project) -> None:
    project.add()
    run(project, 2)
    assert len(project.lake.versions("loans", "quarantined_data")) == 2
